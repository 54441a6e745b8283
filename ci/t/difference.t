#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# ci/difference, with logs made up here: what it takes for a failure, and what not;
# and wrong input of ci/check-upstream and ci/check-debug.

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
	run "$TOP/ci/difference" "$@" "$tmp/logs"
	ok "$name: sum" is "${out##*$'\n'}" "$passed passed, $failed failed"
	ok "$name: status" is "$status" $((failed > 0 || passed == 0))
	[[ $failed == 0 ]] || worse=unit
	run "$TOP/ci/difference" --units "$@" "$tmp/logs"
	ok "$name: units" is "$out" "$worse"
}

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
	ok "a subtest is told with its program" matches "$(grep -c '\./x -b: s' \
		<("$TOP/ci/difference" "$tmp/logs"))" 1
	both "ok 1 s\nok 2 s" "ok 1 s\nnot ok 2 s"
	sums "the second of a name" 1 1
	both "ok 1 at 0x7f00 in 123456 ns" "ok 7 at 0x8f00 in 999999 ns"
	sums "numbers, addresses and times" 1 0
	both "ok 1 # SKIP s" "not ok 1 s"
	sums "a skip before the name" 0 1
	both "ok 1 - s # XFAIL known" "ok 1 s"
	sums "expected to fail" 1 0
}

test_runs() {
	both "$good" "$bad"
	printf '%b\n' "$good" | log patched 2
	printf '%b\n' "$good" | log base 2
	sums "fails on patched, sometimes" 2 1
	ok "in how many runs" matches "$(grep '| b |' <("$TOP/ci/difference" "$tmp/logs"))" '1/2 \| 0/2'
	printf '%b\n' "$bad" | log base 2
	sums "fails on both, sometimes" 2 0
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

# run_both with a guest that is made up: GUEST, a shell command, gets KERNEL, UNIT, RUN.
both_with() {
	local top=$tmp/top

	rm -rf "$top" "$tmp/logs"
	mkdir -p "$top/ci"
	ln -s "$TOP"/ci/{lib.sh,both.sh,difference,splat.awk} "$top/ci"
	cat >"$top/ci/vm-run" <<-EOF_VM
	#!/bin/bash
	: >"\$4"
	IFS=/. read -r kernel unit run _ <<<"\${4#$tmp/logs/}"
	$1
	EOF_VM
	chmod +x "$top/ci/vm-run"
	# shellcheck disable=SC2016 # for that bash
	run env RERUNS=2 bash -c '. "$1/ci/lib.sh"; . "$1/ci/both.sh"; vm_args() { :; }
		run_both images "$2" "" other unit' bash "$top" "$tmp/logs"
}

runs() { (cd "$tmp/logs" && echo ./*/*.log); }

test_reruns() {
	local once="./base/other.1.log ./base/unit.1.log ./patched/other.1.log ./patched/unit.1.log"
	local again="./base/other.1.log ./base/unit.1.log ./base/unit.2.log ./base/unit.3.log ${once#* * }"

	again+=" ./patched/unit.2.log ./patched/unit.3.log"
	# shellcheck disable=SC2016 # for the guest
	{
		both_with 'echo ok 1'
		ok "no difference: each unit once" is "$status $(runs)" "0 $once"
		both_with '[[ $kernel.$unit == patched.unit ]] && echo not ok 1 || echo ok 1'
		ok "a difference: again on both" is "$status $(runs)" "0 $again"
		sums "a difference that stays" 1 1
		both_with '[[ $unit.$run == unit.3 || $kernel.$unit.$run == patched.unit.1 ]] && echo not ok 1 || echo ok 1'
		ok "flaky: as often" is "$status $(runs)" "0 $again"
		sums "flaky" 1 0
		both_with 'echo vm-run: no QEMU; exit 125'
		ok "no guest starts" matches "$status $err" "^1 .*other on base did not start: vm-run: no QEMU"
	}
}

test_input() {
	local case expected

	run "$TOP/ci/difference" "$tmp/none"
	ok "no logs" matches "$status $err" "^1 .*no logs of units"
	both "$good" "$good"
	rm "$tmp/logs/base/unit.1.log"
	run "$TOP/ci/difference" "$tmp/logs"
	ok "no run on base" matches "$status $err" "^1 .*no run of unit on base"
	while IFS='|' read -r case expected; do
		# shellcheck disable=SC2086 # words of the table
		run env BUILD="$tmp" $case
		ok "$case: status" is "$status" 1
		ok "$case: message" matches "$err" "$expected"
		ok "$case: one line" one_line "$err"
	done <<-EOF_CASES
	$TOP/ci/check-upstream --all|unknown argument --all
	RERUNS=many $TOP/ci/check-upstream|RERUNS=many is not a number
	TEST_SECONDS=2m $TOP/ci/check-upstream|TEST_SECONDS=2m is not a number
	UNITS=mm-none $TOP/ci/check-upstream|no unit 'mm-none'
	$TOP/ci/check-upstream|no kernel $tmp/base/bzImage
	$TOP/ci/check-debug --all|unknown argument --all
	RERUNS=-1 $TOP/ci/check-debug|RERUNS=-1 is not a number
	UNITS=flood $TOP/ci/check-debug|no unit 'flood'
	FLAVOURS=ubsan $TOP/ci/check-debug|no flavour 'ubsan'
	EOF_CASES
	run env UNITS=none "$TOP/ci/check-debug"
	ok "check-debug has every situation" is \
		"$(tr '+' ' ' <<<"${err##*there are: }" | xargs -n 1 | grep -v ^reclaim_ | sort)" \
		"$(cd "$TOP/ci/guest.d/situations" && printf '%s\n' * | grep -vx demotion)"
}

test_tests
test_names
test_runs
test_strict
test_complaints
test_reruns
test_input
done_testing
