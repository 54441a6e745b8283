#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# bench/lost-writes: what it says of wrong input and of places where it cannot tell, on
# this machine; and in the guest, on a disk, that base loses writes and that fixed does not,
# by MADV_PAGEOUT and by memory.reclaim. That patched does not, either: see reclaim.t.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

need gcc
"$TOP/ci/make/kernel" base fixed
tmp=$(mktemp -d "$BUILD/lost-writes.XXXXXX")
memory=$(mktemp -d /dev/shm/lost-writes.XXXXXX)
trap 'rm -rf "$tmp" "$memory"' EXIT

# reproduce [VARIABLE=VALUE...]: ci/reproduce, which make reproduce calls
reproduce() { env -u ROUNDS -u MEMCG DIR="$tmp" "$@" "$TOP/ci/reproduce"; }

# refused STATUS PATTERN: the last run ended with that, and one line, which matches.
refused() { is "$status" "$1" && one_line "$err$out" && matches "$err$out" "$2"; }

run reproduce ROUNDS=x
ok "ROUNDS that is no number" refused 2 "x: not a number from 1 to"
run reproduce DIR=/nonexistent
ok "DIR that there is not" refused 2 "/nonexistent: cannot make a file: No such file"
run reproduce DIR=/proc
ok "DIR that cannot be written to" refused 2 "/proc: cannot make a file"
run reproduce DIR="$memory"
ok "a file system in memory" refused 4 "^cannot tell: $memory is on tmpfs"
run reproduce PATH="$tmp"
ok "no compiler" matches "$status" '^(2|127)$'
run taskset -c "$(taskset -cp $$ | sed 's/.*: \([0-9]*\).*/\1/')" "$BUILD/reproduce" -d "$tmp"
ok "one CPU" refused 4 "^cannot tell: there is one CPU"
run "$BUILD/reproduce" -d "$tmp" -r 1 -t 1 -m 250
ok "a round or none: no claim that nothing is lost" matches "$status" '^[14]$'
ok "what it ran on is said" matches "$out" "^kernel: Linux $(uname -r)"
run "$BUILD/reproduce" "$tmp"
ok "an argument too many" refused 2 "no such argument"
ok "no file is left" is "$(find "$tmp" "$memory" -mindepth 1)" ""

# Interrupted: no file, no cgroup.
guest() { run "$TOP/ci/unit" -k "$1" lost-writes "${@:2}"; }

guest fixed -- sh -c '
	lost-writes --memcg >/dev/null &
	until ls -d /sys/fs/cgroup/lost-writes.* 2>/dev/null; do sleep 0.1; done
	kill -TERM $!
	wait $!
	echo "status $?"
	ls -d /sys/fs/cgroup/lost-writes.* 2>/dev/null
	ls -A . | grep -v lost+found'
ok "killed: its own status, and neither file nor cgroup is left" \
	is "$(sed 1d <<<"$out")" "status 143"
# shellcheck disable=SC2016 # for the guest
guest fixed -- sh -c '
	for size in 1M 4k; do
		dd if=/dev/zero of=full.$size bs=$size 2>/dev/null
	done
	lost-writes'
ok "no space: one line, and status 2" is "$status" 2
ok "no space: says so" matches "$err" "lost-writes: .*No space left on device"

# race KERNEL CPUS OPTION...: with so many vCPUs, and -m, as in ci/long/lost-writes
race() { run "$TOP/ci/unit" -k "$1" -c "$2" lost-writes -r 500 -t 400 "${@:3}"; }

# How many of its rounds base loses depends on the host, which may take a core away for a
# while: the first will do, however many rounds that takes.
while read -r cpus options; do
	# shellcheck disable=SC2086 # words
	race base "$cpus" -r 100000 -l 1 $options
	ok "base loses writes${options:+, $options}" is "$status" 1
	ok "base: says so${options:+, $options}" matches "$out" "[1-9][0-9]* of [0-9]+ last writes lost.*LOSES DATA"
	# shellcheck disable=SC2086
	race fixed "$cpus" $options
	ok "fixed loses none${options:+, $options}" is "$status" 0
	ok "fixed: of 500${options:+, $options}" matches "$out" "(^|[^0-9])0 of 500 last writes lost"
done <<-'EOF_CASES'
	2
	3 --memcg -m 500
EOF_CASES
done_testing
