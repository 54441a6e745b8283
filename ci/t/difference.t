#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# ci/long/difference and ci/long/compare-units.sh, with logs and guests made up here: what it
# takes for a failure, and what not; what is run again, and what goes on where it was; and
# wrong input of ci/long/check-upstream and ci/long/check-debug.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# log KERNEL RUN [COMPLAINT] <TAP: a run of the unit "unit".
log() {
	mkdir -p "$tmp/logs/$1"
	cat >"$tmp/logs/$1/unit.$2.log"
	echo "${3:-}" >"$tmp/logs/$1/unit.$2.console"
}

# both BASE PATCHED [COMPLAINT_OF_BASE [COMPLAINT_OF_PATCHED]]: first runs, as printf
# takes them.
both() {
	rm -rf "$tmp/logs"
	printf '%b\n' "$1" | log base 1 "${3:-}"
	printf '%b\n' "$2" | log patched 1 "${4:-}"
}

# sums NAME PASSED FAILED [OPTION]...: of the report.
sums() {
	local name=$1 passed=$2 failed=$3 worse=''

	shift 3
	run "$TOP/ci/long/difference" "$@" "$tmp/logs"
	ok "$name: sum" is "${out##*$'\n'}" "$passed passed, $failed failed"
	ok "$name: status" is "$status" $((failed > 0 || passed == 0))
	[[ $failed == 0 ]] || worse=unit
	run "$TOP/ci/long/difference" --units "$@" "$tmp/logs"
	ok "$name: units" is "$out" "$worse"
}

# failures: the table of a report.
failures() { "$TOP/ci/long/difference" "$tmp/logs" | sed -n '/^Failed/,/^Tests/p'; }

good="ok 1 a\nok 2 b\nok end"
bad="ok 1 a\nnot ok 2 b\nok end"
skip="ok 1 a\nok 2 b # SKIP no memory\nok end"

test_tests() {
	both "$good" "$good"
	sums "same" 3 0
	both "$good" "$bad"
	sums "fails on patched" 2 1
	both "$good" "$skip"
	sums "skipped on patched" 2 1
	both "$good" "ok 1 a"
	sums "missing on patched, as after a crash" 1 2
	both "$bad" "$bad"
	sums "fails on both" 2 0
	both "$bad" "$good"
	sums "fails on base" 2 0
	both "ok 1 a" "$bad"
	sums "fails on patched, missing on base" 1 1
	both "ok 1 a" "$good"
	sums "missing on base" 1 0
	both "$skip" "$skip"
	sums "skipped on both" 2 0
	both "" ""
	sums "nothing runs" 0 0
}

test_names() {
	both "# running ./x -a\n# ok 1 s\n# running ./x -b\n# ok 1 s" \
		"# running ./x -a\n# ok 1 s\n# running ./x -b\n# not ok 1 s"
	sums "a subtest of one program" 1 1
	ok "a subtest is told with its program" matches "$(failures)" '\| \./x -b: s \|'
	both "ok 1 s\nok 2 s" "ok 1 s\nnot ok 2 s"
	sums "the second of a name" 1 1
	both "ok 1 at 0x7f00 in 123456 ns" "ok 7 at 0x8f00 in 999999 ns"
	sums "numbers, addresses and times" 1 0
	both "ok 1 x /tmp/xfs_dir_iCIXQN: y" "ok 1 x /tmp/xfs_dir_tzaUPr: y"
	sums "what mktemp made up" 1 0
	both "# running ./x /tmp/tmp.iCIXQN01ab\n# not ok 1 s\nok end" "# running ./x /tmp/tmp.tzaUPr9999\n# not ok 1 s\nok end"
	sums "what mktemp made up, and bad on both" 1 0
	both "ok 1 t Extra pages 25 (0.1%), extra thread faults 25." "ok 1 t Extra pages 9 (10%), extra thread faults 9."
	sums "counts and shares" 1 0
	both "ok 1 Success reaping a child with 1MB of memory" "ok 1 Success reaping a child with 2MB of memory"
	sums "what mrelease_test counts" 1 0
	both "ok 1 s (16 kB)\nok 2 s (32 kB)" "ok 1 s (16 kB)\nnot ok 2 s (32 kB)"
	sums "sizes are names" 1 1
	ok "a size is told" matches "$(failures)" '\| s \(32 kB\) \|'
	both "ok 1 # SKIP s" "not ok 1 s"
	sums "a skip before the name" 0 1
	both "ok 1 - s # XFAIL known" "ok 1 s"
	sums "expected to fail" 1 0
}

# runs BASE PATCHED: as many of both as there are letters, each for a run of test b: g
# good, f fail, s skip.
runs() {
	local word kernel=base i
	local -A tap=([g]=$good [f]=$bad [s]=$skip)

	rm -rf "$tmp/logs"
	for word; do
		for ((i = 0; i < ${#word}; i++)); do
			printf '%b\n' "${tap[${word:i:1}]}" | log $kernel $((i + 1))
		done
		kernel=patched
	done
}

# is_called VERDICT BASE PATCHED [OPTION]...: of test b.
is_called() {
	local verdict=$1 base=$2 patched=$3

	runs "$base" "$patched"
	shift 3
	run "$TOP/ci/long/difference" --details "$tmp/all" "$@" "$tmp/logs"
	ok "$base on base, $patched on patched${*:+, }$*: $verdict" is \
		"$(awk '/^[A-Z]/ { of = $0 } /\| b \|/ { print of }' "$tmp/all")" "${verdict^}:"
	ok "$base on base, $patched on patched${*:+, }$*: status" is "$status" "$([[ $verdict != failed ]] && echo 0 || echo 1)"
}

test_runs() {
	is_called failed gggg ffff
	is_called failed gggg fsfs
	is_called undecided gggg fffg
	is_called undecided gggg gggf
	is_called undecided gggf ffff
	is_called failed gggggggggg ffffgggggg
	is_called undecided gggggggggg fffggggggg
	is_called failed gggggg gfffff
	is_called undecided gggggfg gfffffg	# 5.1 %
	is_called "bad in some runs on both" ggff ggff
	is_called "bad in some runs on both" ffff gfff
	is_called "bad on base only" gggf gggg
	is_called "bad on both always" ffff ffff
	is_called "bad on both always" ssss ssss
	is_called passed gggg gggg
	# too few for chance to be told
	is_called failed g f
	is_called failed gg ff
	is_called undecided gg fg
	# base does not get to it
	is_called failed ssss ffff
	ok "base does not get to it: told" matches "$(failures)" '\| b \| 4/4 \| 4/4 not run \|'
	is_called undecided ssss ffss
	is_called "bad on both always" ssff ffff
	is_called failed gggg gggf --strict
	is_called failed gggg gggs --strict
	is_called failed ffff gggf --strict
	is_called "bad in some runs on both" sggg gggs --strict

	runs gggg gggf
	ok "undecided is told" matches "$("$TOP/ci/long/difference" "$tmp/logs")" \
		"Undecided: worse .*\| unit \| b \| 1/4 \| 0/4 \|"
	run "$TOP/ci/long/difference" --units "$tmp/logs"
	ok "first run good: not to be run again" is "$status $out" "0 "
	runs ggff fggg
	run "$TOP/ci/long/difference" --units "$tmp/logs"
	ok "first run bad: to be run again" is "$status $out" "0 unit"
	runs gggg gggg
	log patched 4 "BUG: KCSAN: data-race in f / g" <"$tmp/logs/base/unit.1.log"
	run "$TOP/ci/long/difference" "$tmp/logs"
	ok "a complaint in one run of four" is "$status ${out##*$'\n'}" "1 3 passed, 1 failed"
}

# many VERDICT: 200 lines of TAP.
many() { seq -f "$1 %g - t" 200 | awk '{ print $0 NR }'; }

test_report() {
	rm -rf "$tmp/logs"
	for i in 1 2; do
		{ many "not ok"; many "not ok" | sed 's/t/u/'; many ok | sed 's/t/v/'; } | log base $i
		{ many "not ok"; many ok | sed 's/t/u/'; many ok | sed 's/t/v/'; } | log patched $i
	done
	run "$TOP/ci/long/difference" --details "$tmp/all" "$tmp/logs"
	ok "a report is short" test "$(wc -l <<<"$out")" -le 10
	ok "sums of a unit" matches "$out" '\| unit \| 200 \| 200 \| 200 \|'
	ok "all is in the details" is "$(grep -c '^| unit | [tuv][0-9]* |' "$tmp/all")" 600
	ok "under their title" is "$(sed -n '/^Bad on base only/,/^$/p' "$tmp/all" | head -n 1)" "Bad on base only:"
	run "$TOP/ci/long/difference" --of "unit other" "$tmp/logs"
	ok "not run" is "$status ${out##*$'\n'}" "1 200 passed, 1 failed"
	ok "not run: which" matches "$out" '\| other \| has not been run on both kernels \|'
	rm "$tmp"/logs/base/*
	run "$TOP/ci/long/difference" "$tmp/logs"
	ok "not run on base" is "$status ${out##*$'\n'}" "1 0 passed, 1 failed"
}

test_strict() {
	both "$bad" "$bad"
	sums "strict: fails on both" 2 1 --strict
	both "not ok 1 a\nok 2 b" "ok 2 b"
	sums "strict: missing on patched, fails on base" 1 1 --strict
	both "$skip" "$skip"
	sums "strict: skipped on both" 2 0 --strict
	both "$bad" "$good"
	sums "strict: fails on base" 2 0 --strict
}

test_complaints() {
	local old new

	old="WARNING: mm/vmscan.c:12 at shrink_folio_list+0x1/0x2, CPU#0: kswapd0/45"
	new="WARNING: mm/vmscan.c:99 at shrink_folio_list+0x3/0x4, CPU#1: cat/1"
	both "$good" "$good" "$old" "$new"
	sums "a known complaint, from elsewhere" 3 0
	both "$good" "$good" "$old"
	sums "a complaint of base" 3 0
	both "$good" "$good" "" "$new"
	sums "a new complaint" 3 1
	echo "$old" >"$tmp/logs/base/other.1.console"
	sums "a complaint of base in another unit" 3 0 --of unit
	old="BUG: KCSAN: data-race in f.isra.0 / g"
	both "$good" "$good" "$old" "BUG: KCSAN: data-race in f / g"
	sums "the same pair of functions" 3 0
	both "$good" "$good" "$old" "BUG: KCSAN: data-race in f / h"
	sums "another pair of functions" 3 1
	old=$'WARNING: possible circular locking dependency detected\na/1 is trying to acquire lock:\n'
	both "$good" "$good" "${old}ffff (&a){+.+.}-{3:3}, at: f+0x1/0x2" "${old}fffe (&a){....}-{3:3}, at: f+0x1/0x2"
	sums "the same locks" 3 0
	both "$good" "$good" "${old}ffff (&a){+.+.}-{3:3}, at: f+0x1/0x2" "${old}ffff (&b){+.+.}-{3:3}, at: f+0x1/0x2"
	sums "other locks" 3 1
	old+=$'x (&a){+.+.}-{3:3}, at: f+0x1/0x2\nx (&b){+.+.}-{3:3}, at: g+0x1/0x2\n'
	both "$good" "$good" "$old" "${old}x (&held){+.+.}-{3:3}, at: h+0x1/0x2"
	sums "another lock that was held" 3 0
	# one complaint, and a guest that has crashed
	both "$good" "ok 1 a" "" $'------------[ cut here ]------------\nOops: 0000 [#1] SMP\nRIP: 0010:f+0x1/0x2\nKernel panic - not syncing: Fatal exception'
	sums "a crash" 1 4
}

# guest COMMAND: run_both will start that, which gets KERNEL, UNIT, RUN and CONSOLE.
guest() {
	local top=$tmp/top kernel

	rm -rf "$top" "$tmp/logs"
	mkdir -p "$top/ci/long" "$tmp"/images/{base,patched}
	ln -s "$TOP"/ci/{lib.sh,state,arches,bases,splat.awk} "$top/ci"
	ln -s "$TOP"/ci/long/{compare-units.sh,difference} "$top/ci/long"
	echo input >"$tmp/input"
	for kernel in base patched; do
		echo "$kernel" >"$tmp/images/$kernel/bzImage"
	done
	becomes "$1"
}

becomes() {
	cat >"$tmp/top/ci/unit" <<-EOF_UNIT
	#!/bin/bash
	if [[ \$1 == --stamp ]]; then
		cat "\$3" "$tmp/input" - <<<"\${*:4}" | sha256sum
		exit
	fi
	CONSOLE=\$4.console
	: >"\$CONSOLE"
	IFS=/. read -r KERNEL UNIT RUN <<<"\${4#$tmp/logs/}"
	echo "\$KERNEL/\$UNIT.\$RUN" >>"$tmp/boots"
	( $1
	) >"\$4.log" || { cat "\$4.log"; exit 125; }
	"\$0" --stamp -k "\$2" "\${@:5}" >"\$4.stamp"
	EOF_UNIT
	chmod +x "$tmp/top/ci/unit"
}

# start [NAME=VALUE]...: run_both, in the tree "$tmp/$at"; sets boots, which it made, sorted:
# the kernels run at once.
at=top
start() {
	: >"$tmp/boots"
	# shellcheck disable=SC2016 # for that bash
	run env RERUNS=2 "$@" bash -c '. "$1/$2/ci/lib.sh"; . "$1/$2/ci/long/compare-units.sh"
		unit_args() { args=(-m "${MIB:-512}"); }
		choose other unit
		run_both "$1/images" "$1/logs" ""' "$tmp" "$tmp" "$at"
	boots=$(sort -t / -k 2,2 -k 1,1 "$tmp/boots" | paste -sd ' ')
}

# shellcheck disable=SC2016 # for the guest
test_reruns() {
	local once="base/other.1 patched/other.1 base/unit.1 patched/unit.1"
	local again="$once base/unit.2 patched/unit.2 base/unit.3 patched/unit.3"

	guest 'echo ok 2'
	start UNITS=$'unit\nother'
	ok "units, each on a line" is "$status $boots" "0 $once"
	guest 'echo ok 1'
	start
	ok "no difference: each unit once" is "$status $boots" "0 $once"
	guest '[[ $KERNEL.$UNIT == patched.unit ]] && echo not ok 1 || echo ok 1'
	start
	ok "a difference: again on both" is "$status $boots" "0 $again"
	sums "a difference that stays" 1 1
	guest '[[ $UNIT.$RUN == unit.3 || $KERNEL.$UNIT.$RUN == patched.unit.1 ]] && echo not ok 1 || echo ok 1'
	start
	ok "flaky: as often" is "$status $boots" "0 $again"
	run "$TOP/ci/long/difference" "$tmp/logs"
	ok "flaky: sum" is "$status ${out##*$'\n'}" "0 1 passed, 0 failed"
	guest 'echo vm-run: no QEMU; exit 125'
	start
	ok "no guest starts" matches "$status $err" "^1 .*other on base did not start: vm-run: no QEMU"
	guest 'echo ok 1'
	cp "$tmp"/images/{base,patched}/bzImage
	start
	ok "two equal images: refused" matches "$status $boots $err" "^1  .*base and patched are the same image"
}

# shellcheck disable=SC2016 # for the guest
test_going_on() {
	local differs='[[ $KERNEL.$UNIT == patched.unit ]] && echo not ok 1 || echo ok 1'
	local once="base/other.1 patched/other.1 base/unit.1 patched/unit.1"

	guest "$differs"
	start
	start
	ok "all is done: no boot" is "$status $boots" "0 "
	ok "where and when of each start" is "$(grep -c ^date= "$tmp/logs/env")" 2
	start RERUNS=3
	ok "one more run" is "$status $boots" "0 base/unit.4 patched/unit.4"

	guest "$differs"
	start RERUNS=0
	start UNITS=other
	ok "what is not asked for is not run again" is "$status $boots" "0 "

	guest '[[ $KERNEL.$UNIT != patched.unit ]] || { kill $PPID; exit 1; }; echo ok 1'
	start
	ok "interrupted" is "$boots" "$once"
	becomes "$differs"
	start
	ok "goes on where it was" is "$boots" "patched/unit.1 base/unit.2 patched/unit.2 base/unit.3 patched/unit.3"

	guest 'echo $BASHPID >>$0.pids; exec sleep 60'
	{ until [[ $(wc -l <"$tmp/top/ci/unit.pids") == 2 ]]; do sleep 0.1; done; pkill -o -INT -f 'bash -c .*run_both'; } 2>/dev/null &
	start
	ok "Ctrl-C" is "$status $boots" "130 base/other.1 patched/other.1"
	ok "Ctrl-C: both guests are gone" is "$(xargs kill -0 <"$tmp/top/ci/unit.pids" 2>&1 | grep -c "No such process")" 2

	guest '[[ $UNIT.$RUN == unit.1 && $KERNEL == patched ]] && echo not ok 1 || echo ok 1
		[[ $KERNEL.$UNIT.$RUN != patched.unit.2 ]] || { kill $PPID; exit 1; }'
	start
	becomes 'echo ok 1'
	start
	ok "goes on with what is run again" is "$boots" "patched/unit.2 base/unit.3 patched/unit.3"

	guest "$differs"
	start
	becomes 'echo ok 1'
	echo other >>"$tmp/images/patched/bzImage"
	start
	ok "another image: only that" is "$status $boots" "0 patched/other.1 patched/unit.1"
	ok "another image: no log of the old one" is "$(cd "$tmp/logs" && echo patched/*.log)" "patched/other.1.log patched/unit.1.log"
	echo other >>"$tmp/input"
	start
	ok "another input: all" is "$status $boots" "0 $once"
	start MIB=1024
	ok "other arguments: all" is "$status $boots" "0 $once"
	start MIB=1024 UNITS=unit
	ok "what is not asked for stays" is "$status $boots $(echo "$tmp"/logs/*/other.1.log | wc -w)" "0  2"
	cp -a "$tmp/top" "$tmp/elsewhere"
	at=elsewhere start MIB=1024
	ok "a copy of the tree" is "$status $boots" "0 "
	: >"$tmp/logs/base/gone.1.log"
	cp "$tmp"/logs/base/{unit,gone}.1.stamp
	start MIB=1024
	ok "a unit that is no more" is "$status $boots $(find "$tmp/logs" -name 'gone*')" "0  "
}

# int3 [BYTE [PARAMETER [COMPLAINT]]]: what a console says: the byte before <>.
int3() {
	printf '%s\n' "Command line: console=ttyS0 ${2:-VM_ACCEL=tcg}" "${3:-init}" "Oops: int3: 0000 [#1] SMP" \
		"CPU: 1 UID: 0 PID: 67 Comm: on-fs" "RIP: 0010:f+0x4a/0x100" \
		"Code: c0 0f 85 48 8b 05 ff cc 88 07 01 ${1:-66} <90> 0f 01 f9 66 90 cc" \
		"Code: cc <00>" "Kernel panic - not syncing: Fatal exception"
}

# is_stale STATUS NAME [ARGUMENT...]: of int3.
is_stale() {
	int3 "${@:3}" >"$tmp/console"
	# shellcheck disable=SC2016 # for that bash
	run bash -c '. "$1/ci/lib.sh"; . "$1/ci/long/compare-units.sh"; stale_int3 "$2"' bash "$TOP" "$tmp/console"
	ok "int3: $2" is "$status" "$1"
}

test_int3() {
	local once="base/other.1 patched/other.1 base/unit.1 patched/unit.1"

	is_stale 0 "not in memory"
	is_stale 1 "in memory" cc
	is_stale 1 "not emulated" 66 VM_ACCEL=kvm
	is_stale 1 "not the first complaint" 66 VM_ACCEL=tcg "BUG: Bad page state in process x  pfn:1"
	int3 | sed 's/int3/0000/' >"$tmp/console"
	# shellcheck disable=SC2016 # for that bash
	run bash -c '. "$1/ci/lib.sh"; . "$1/ci/long/compare-units.sh"; stale_int3 "$2"' bash "$TOP" "$tmp/console"
	ok "int3: another oops" is "$status" 1
	: >"$tmp/console"
	# shellcheck disable=SC2016 # for that bash
	run bash -c '. "$1/ci/lib.sh"; . "$1/ci/long/compare-units.sh"; stale_int3 "$2"' bash "$TOP" "$tmp/console"
	ok "int3: no oops" is "$status" 1

	int3 >"$tmp/console"
	guest "[[ \$KERNEL.\$UNIT != patched.unit || -e \${CONSOLE%console}int3 ]] && echo ok 1 || cp $tmp/console \$CONSOLE"
	start
	ok "int3: once more" is "$status $boots" "0 $once patched/unit.1"
	sums "int3 once" 2 0
	run "$TOP/ci/long/difference" "$tmp/logs"
	ok "int3: told" matches "$out" "Run again, .*: unit.1 on patched"
	ok "int3: kept" cmp "$tmp/console" "$tmp/logs/patched/unit.1.int3"
	guest "[[ \$KERNEL.\$UNIT != patched.unit ]] && echo ok 1 || cp $tmp/console \$CONSOLE"
	start RERUNS=0
	ok "int3: twice counts" is "$status $boots" "0 $once patched/unit.1"
	run "$TOP/ci/long/difference" "$tmp/logs"
	ok "int3: twice is a failure" matches "$status ${out##*$'\n'}" "^1 1 passed, 3 failed"
}

test_input() {
	local case expected

	run "$TOP/ci/long/difference" "$tmp/none"
	ok "no logs" matches "$status $err" "^1 .*no logs of units"
	while IFS='|' read -r case expected; do
		# shellcheck disable=SC2086 # words of the table
		run env BUILD="$tmp" $case
		ok "$case: status" is "$status" 1
		ok "$case: message" matches "$err" "$expected"
		ok "$case: one line" one_line "$err"
	done <<-EOF_CASES
	$TOP/ci/long/check-upstream --all|unknown argument --all
	RERUNS=many $TOP/ci/long/check-upstream|RERUNS=many is not a number
	TEST_SECONDS=2m $TOP/ci/long/check-upstream|TEST_SECONDS=2m is not a number
	UNITS=mm-none $TOP/ci/long/check-upstream|no unit 'mm-none'
	$TOP/ci/long/check-upstream|no kernel $tmp/base/bzImage
	$TOP/ci/long/check-debug --all|unknown argument --all
	RERUNS=-1 $TOP/ci/long/check-debug|RERUNS=-1 is not a number
	UNITS=flood $TOP/ci/long/check-debug|no unit 'flood'
	FLAVOURS=ubsan $TOP/ci/long/check-debug|no flavour 'ubsan'
	FUZZ_SECONDS=1h $TOP/ci/long/check-debug|FUZZ_SECONDS=1h is not a number
	EOF_CASES
	run env UNITS=none "$TOP/ci/long/check-debug"
	ok "check-debug has every situation" is \
		"$(tr '+' ' ' <<<"${err##*there are: }" | xargs -n 1 | grep -vE '^(reclaim_.*|fuzz)$' | sort)" \
		"$(cd "$TOP/ci/guest.d/situations" && printf '%s\n' * | grep -vx demotion)"
}

test_tests
test_names
test_runs
test_report
test_strict
test_complaints
test_reruns
test_going_on
test_int3
test_input
done_testing
