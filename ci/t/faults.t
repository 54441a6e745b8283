#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What holding the locks of many folios could break: reclaim on the patched
# kernel in each of ci/guest.d/situations; ci/guest.d/reclaim-in says what must hold
# after them. A hang ends in the time-out of vm-run, a splat in its status.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

SECONDS_MAX=300	# for one boot

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"	# QEMU's arguments are split at blanks: no path in them

# guest QEMU_ARGS COMMAND...
guest() {
	local qemu=$1

	shift
	run "$TOP/ci/vm-run" -k "$BUILD/patched/bzImage" -c 2 -m 512 -t "$SECONDS_MAX" \
		--swap none --append brd.rd_size=65536 --add "$TOP/ci" --qemu "$qemu" -- "$@"
}

# faults QEMU_ARGS SITUATION...: a boot, and a test for each of them.
faults() {
	local qemu=$1 name

	shift
	guest "$qemu" /ci/guest.d/reclaim-in "$@"
	for name; do
		ok "reclaim and $name" grep -qx "ok $name" <<<"$out"
	done
	ok "no complaint after $*" is "$status" 0
}

# The checks must be able to fail.
guest "" dirty-pages -o none -e
ok "a changed page is noticed" matches "$status $err" "^1 .*task 0: anon page"

run "$TOP/ci/guest.d/reclaim-in"
ok "no situation" matches "$status $err" "^1 .*no situation given"
run "$TOP/ci/guest.d/reclaim-in" flood
ok "unknown situation" matches "$status $err" "^1 .*no situation 'flood'"

faults "$(faults_disk disk 10)" discard loop_on_tmpfs loop_on_ext4 full write_error flaky_disk zswap
faults "" mix damon large kill_owner oom removed_cgroup unfair swap_off cpu_hotplug mglru_switch waiters
faults "$(faults_disk disk 10)" legacy
faults "$(slow_node)" demotion
tested=$(sed -n 's/^faults "[^"]*" //p' "$TOP/ci/t/faults.t" | xargs -n 1 | sort)
ok "every situation is tested" is "$tested" "$(ls "$TOP/ci/guest.d/situations")"
done_testing
