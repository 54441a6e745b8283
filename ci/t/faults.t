#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What holding the locks of many folios could break: reclaim on the patched
# kernel in each of ci/guest.d/situations; ci/guest.d/reclaim-in says what must hold
# after them. A hang ends in the time-out of vm-run, a splat in its status.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

SECONDS_MAX=300	# for one boot

guest() { run "$TOP/ci/unit" -k patched -t "$SECONDS_MAX" "$@"; }

# faults UNIT: a boot, and a test for each situation of it.
faults() {
	local name

	guest "$1"
	for name in ${1//+/ }; do
		ok "reclaim and $name" grep -qx "ok $name" <<<"$out"
	done
	ok "no complaint after ${1//+/ }" is "$status" 0
}

# The checks must be able to fail.
guest mix -- dirty-pages -o none -e
ok "a changed page is noticed" matches "$status $err" "^1 .*task 0: anon page"

run "$TOP/ci/guest.d/reclaim-in"
ok "no situation" matches "$status $err" "^1 .*no situation given"
run "$TOP/ci/guest.d/reclaim-in" flood
ok "unknown situation" matches "$status $err" "^1 .*no situation 'flood'"

mapfile -t units < <("$TOP/ci/unit" --list groups 8)
for unit in "${units[@]}"; do
	faults "$unit"
done
ok "every situation is tested" is "$(printf '%s\n' "${units[@]//+/$'\n'}" | sort)" "$(ls "$TOP/ci/guest.d/situations")"
done_testing
