#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# ci/long/soak: wrong settings, Ctrl-C, and that it notices a changed page.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"
set -m	# jobs get process groups of their own, and heed SIGINT

guest_runs() { pgrep -f "^qemu-system-x86_64 .*$tmp" >/dev/null; }

test_settings() {
	local setting expected

	while IFS='|' read -r setting expected; do
		run env "$setting" "$TOP/ci/long/soak"
		ok "$setting: status" is "$status" 1
		ok "$setting: message" matches "$err" "$expected"
		ok "$setting: one line" one_line "$err"
	done <<-'EOF_CASES'
	MINUTES=0|MINUTES=0 is not a number of minutes
	MINUTES=1h|MINUTES=1h is not a number of minutes
	SEED=many|SEED=many is not a number from 0
	SEED=32768|SEED=32768 is not a number from 0
	SPOIL=maybe|SPOIL=maybe: use 1
	KERNEL=none|no kernel .*/none/bzImage: run 'make kernel'
	EOF_CASES
	run "$TOP/ci/long/soak" 60
	ok "an argument" matches "$status $err" "^1 .*takes no arguments"
}

# As from a terminal: the signal goes to the whole process group.
test_interrupt() {
	local job

	env --default-signal "$TOP/ci/long/soak" >"$tmp/out" 2>"$tmp/err" </dev/null &
	job=$!
	ok "interrupt: a guest runs" until_true 60 grep -qs '^step 1: ' "$BUILD/soak/patched.log"
	kill -INT -- "-$job"
	status=0
	wait "$job" 2>/dev/null || status=$?
	out=$(<"$tmp/out") err=$(<"$tmp/err")
	ok "interrupt: status" is "$status" 130
	ok "interrupt: it is said" matches "$err" "interrupted: the guest is gone; SEED="
	ok "interrupt: no guest is left" not guest_runs
	ok "interrupt: no disk is left" is "$(find "$BUILD/vm" -name 'run.*')" ""
}

test_spoiled() {
	run env MINUTES=1 SEED=26100 SPOIL=1 "$TOP/ci/long/soak"
	ok "a changed page is noticed" matches "$status $out" "^1 [1-9][0-9]* passed, 1 failed$"
	ok "a changed page is told" matches "$err" "anon page .* in memory: word"
}

# A directory of its own, with the kernel and the guest of this one.
"$TOP/ci/make/guest"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
ln -s "$BUILD/guest" "$BUILD/patched" "$tmp"
export BUILD=$tmp

test_settings
test_interrupt
test_spoiled
done_testing
