#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Test bench/pairs with a ci/vm-run that only pretends, and the command line of
# bench/run: prove bench/t/pairs.t

. "$(dirname "$0")/../../ci/lib.sh"

. "$TOP/ci/t/tap.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# try COMMAND...: sets status and err; stdout goes to $tmp/out.
try() {
	status=0
	"$@" >"$tmp/out" 2>"$tmp/err" || status=$?
	err=$(<"$tmp/err")
}

# A tree like this one whose vm-run notes what it was asked for in $tmp/calls
# and prints a run, or fails with FAIL_STATUS at call number FAIL_AT.
make_tree() {
	mkdir -p "$tmp/tree/ci" "$tmp/build/"{base,patched,cap,cap-31}
	cp -r "$TOP/bench" "$tmp/tree"
	cp "$TOP"/ci/{lib.sh,arches,bases} "$tmp/tree/ci"
	echo series=0123 >"$tmp/tree/ci/state.kept"
	cp "$TOP/ci/state" "$tmp/tree/ci"
	touch "$tmp/build/"{base,patched,cap,cap-31}/bzImage
	cat >"$tmp/tree/ci/vm-run" <<'END'
#!/usr/bin/env bash
echo "$*" >>"$CALLS"
n=$(wc -l <"$CALLS")
scenario=${!#}
[[ $* =~ KERNEL_LABEL=([a-z0-9-]*) ]]
cat <<JSON
{"schema": 1, "scenario": "$scenario", "valid": true, "settings": {},
 "kernel": {"label": "${BASH_REMATCH[1]}", "release": "7.3", "config_sha256": ""},
 "env": {"date": "$(printf %04d "$n")", "cpus": 2, "host_cpus": 2, "mem_mib": 1, "swap": "", "accel": ""},
 "question": "gain", "metrics": {"x": {"value": ${VALUE:-$n}, "unit": "s", "better": "lower"}}}
JSON
if [[ $n == "${KILL_AT:-}" ]]; then
	kill -TERM $PPID
	sleep 5
fi
if [[ $n == "${FAIL_AT:-}" ]]; then
	echo "run: INVALID RUN of $scenario: it broke" >&2
	exit 1
fi
END
	chmod +x "$tmp/tree/ci/vm-run"
	export CALLS=$tmp/calls BUILD=$tmp/build
}

# again [NAME=VALUE...]: run it.  pairs: with nothing there of another run.
again() {
	rm -f "$tmp/calls"
	try env "$@" "$tmp/tree/bench/pairs"
}
pairs() {
	rm -rf "$tmp/build/bench"
	again "$@"
}

# order: the kernels and scenarios that were run, in turn.
order() { sed 's/.*KERNEL_LABEL=\([a-z0-9-]*\) .*run \([a-z]*\)$/\1:\2/' "$tmp/calls" | tr '\n' ' '; }

files() { (cd "$tmp"/build/bench/* && find . -type f | LC_ALL=C sort | tr '\n' ' '); }

make_tree

pairs PAIRS=2 CPUS=2 DURATION=7 SETTINGS="A=1 B=2"
ok "pairs: succeeds" is "$status" 0
ok "pairs: the kernels take turns" is "$(order)" \
	"base:pageout patched:pageout base:vm patched:vm base:pageout patched:pageout base:vm patched:vm "
ok "pairs: raw data, environment and reports" is "$(files)" \
	"./env ./explained ./explained.md ./log ./pageout/base-01.json ./pageout/base-02.json ./pageout/patched-01.json ./pageout/patched-02.json ./report.json ./report.md ./vm/base-01.json ./vm/base-02.json ./vm/patched-01.json ./vm/patched-02.json "
ok "pairs: CPUs, memory, settings" matches "$(head -n1 "$tmp/calls")" \
	"-c 2 -m 1024 .*DURATION=7 A=1 B=2 /bench/run pageout"
ok "pairs: prints the comparison" matches "$(<"$tmp/out")" "vm:.*pairs: 2"
seconds=0
for scenario in pageout vm; do
	seconds=$((seconds + 4 * $("$TOP/bench/run" takes $scenario 2>/dev/null)))
done
ok "pairs: says what to expect" matches "$err" "expected: $(((seconds + 59) / 60)) minutes"
ok "pairs: shows progress" matches "$err" "vm on patched, run 8 of 8, [0-9]+ s so far, about [0-9]+ s to go"

ok "pairs: explains" matches "$(<"$tmp/out")" "vm: asked for a gain, no answer: 2 pairs are too few"

pairs PAIRS=2 FAIL_AT=3
ok "pairs: a failed run: status" is "$status" 1
ok "pairs: ends its scenario; the others go on" is "$(order)" \
	"base:pageout patched:pageout base:vm base:pageout patched:pageout "
ok "pairs: says what broke, and where" matches "$err" \
	"vm/base-01.json failed with status 1: run: INVALID RUN of vm: it broke: see .*/log"
ok "pairs: explains that there is no answer" matches "$(<"$tmp/out")" "vm: no answer: .*it broke"
ok "pairs: puts the failed scenario aside" is "$(files)" \
	"./env ./explained ./explained.md ./failed/vm/pair-01/base-01.json ./failed/vm/pair-01/reason ./log ./pageout/base-01.json ./pageout/base-02.json ./pageout/patched-01.json ./pageout/patched-02.json ./report.json ./report.md "
pairs PAIRS=3 FAIL_AT=8
ok "pairs: a later run fails: status" is "$status" 1
ok "pairs: all others go on" is "$(order | wc -w)" 12
ok "pairs: its pair is left out" is "$(cd "$tmp"/build/bench/* && find vm failed -type f | sort | xargs)" \
	"failed/vm/pair-02/base-02.json failed/vm/pair-02/patched-02.json failed/vm/pair-02/reason vm/base-01.json vm/base-03.json vm/patched-01.json vm/patched-03.json"
ok "pairs: says which" matches "$(<"$tmp/out")" "vm.*pairs: 2.*vm: without pair-02: vm/patched-02.json failed"
pairs PAIRS=2 SCENARIO=vm FAIL_AT=2
ok "pairs: no scenario is left" matches "$status $err" "^1 .*no scenario came to its end"

pairs PAIRS=2 KILL_AT=6
ok "pairs: interrupted: status" is "$status" 143
ok "pairs: interrupted: keeps no half of a run" is "$(files)" \
	"./env ./log ./pageout/base-01.json ./pageout/base-02.json ./pageout/patched-01.json ./vm/base-01.json ./vm/patched-01.json "
again PAIRS=2
ok "pairs: goes on" matches "$status $err" "^0 .*going on with"
seconds=$(($("$TOP/bench/run" takes pageout 2>/dev/null) + 2 * $("$TOP/bench/run" takes vm 2>/dev/null)))
ok "pairs: what is left to expect" matches "$err" "expected: $(((seconds + 59) / 60)) minutes"
ok "pairs: tells of the runs that are left" is \
	"$(grep -oE '(pageout|vm) on [a-z]+, run [0-9]+' <<<"$err" | xargs)" \
	"pageout on patched, run 6 vm on base, run 7 vm on patched, run 8"
ok "pairs: with the runs that were not made" is "$(order)" "patched:pageout base:vm patched:vm "
again PAIRS=2
ok "pairs: what is finished does not go on" is "$(wc -l <"$tmp/calls")" 8
pairs PAIRS=2 KILL_AT=6
again PAIRS=2 SETTINGS="A=2"
ok "pairs: other settings do not go on with it" is "$(wc -l <"$tmp/calls")" 8
pairs PAIRS=2 KILL_AT=6
echo changed >"$tmp/build/base/bzImage"
again PAIRS=2
ok "pairs: nor does another kernel" is "$(wc -l <"$tmp/calls")" 8

pairs PAIRS=1 SCENARIO=all
ok "pairs: all scenarios" is "$(awk 'NR % 2 { print $NF }' "$tmp/calls")" "$(ls "$TOP/bench/scenarios")"
ok "pairs: with what they need of the guest" grep -q -- '-c 2 -m 1024 --disk 1024 .*run microvm$' "$tmp/calls"
pairs PAIRS=6 SCENARIO=vm VALUE=1
ok "pairs: explains that nothing is shown" matches "$(<"$tmp/out")" \
	"vm: asked for a gain, no gain shown: of 1 metric 0 better, 0 worse"

pairs PAIRS=2 SCENARIO=vm KERNELS="base cap cap-31 patched"
ok "pairs: several kernels take turns" is "$status $(order)" \
	"0 base:vm cap:vm cap-31:vm patched:vm base:vm cap:vm cap-31:vm patched:vm "
ok "pairs: each with runs of its own" is "$(files)" \
	"./env ./explained ./explained.md ./log ./report.json ./report.md ./vm/base-01.json ./vm/base-02.json ./vm/cap-01.json ./vm/cap-02.json ./vm/cap-31-01.json ./vm/cap-31-02.json ./vm/patched-01.json ./vm/patched-02.json "
ok "pairs: side by side, in that order" matches "$(<"$tmp/out")" "metric +unit +base +cap +cap-31 +patched"
ok "pairs: the runs of each are its own" matches "$(<"$tmp/out")" "^ *vm:.*x +s +3 +4 +5 +6 "
ok "pairs: explains each" is "$(grep -o '^vm, [^:]*' "$tmp/out" | xargs)" "vm, cap vm, cap-31 vm, patched"
try "$tmp/tree/bench/pairs" --report
ok "pairs: the report of another time is of its kernels" matches "$status $(<"$tmp/out")" \
	"^0 .*base +cap +cap-31 +patched"
try env KERNELS="base=/mine cap-31 patched" "$tmp/tree/bench/pairs" --check
ok "pairs: what has to be built" is "$status $(xargs <"$tmp/out")" "0 cap-31 patched"
ok "make bench KERNELS=: builds these" matches \
	"$(make -n -C "$TOP" --no-print-directory bench KERNELS="base cap-31")" "ci/make/kernel [$]kernels"

pairs KERNELS="base absent"
ok "pairs: a kernel that is not there" matches "$err" "no kernel .*/absent/bzImage"
pairs KERNELS=base
ok "pairs: one kernel" matches "$err" "name two or more"
pairs KERNELS="base patched base"
ok "pairs: a kernel twice" matches "$err" "each name once"
pairs SCENARIO=nope
ok "pairs: an unknown scenario" matches "$err" "no scenario 'nope'"
pairs PAIRS=0
ok "pairs: no pairs" matches "$err" "not a number of pairs"
ok "pairs: nothing was run" not test -e "$tmp/calls"

try "$TOP/bench/run" list
ok "run: lists every scenario" is "$(awk '{ print $1 }' "$tmp/out")" "$(ls "$TOP/bench/scenarios")"
ok "run: each with its question" is "$(awk '{ print $2 }' "$tmp/out" | sort -u | xargs)" "gain no-regression"
seconds=0
for scenario in "$TOP"/bench/scenarios/*; do
	seconds=$((seconds + $("$TOP/bench/run" takes "${scenario##*/}" 2>/dev/null)))
done
ok "run: all scenarios, six pairs of two kernels, take two and a half hours at most: $((12 * seconds)) s" \
	test $((12 * seconds)) -le 9000
try make -C "$TOP" --no-print-directory bench SCENARIO=list
ok "make bench SCENARIO=list" is "$(awk '{ print $1 }' "$tmp/out")" "$(ls "$TOP/bench/scenarios")"
try env -u VM_ACCEL "$TOP/bench/run" vm
ok "run: not on a machine that nobody has named" matches "$status $err" "^1 .*say --on-this-machine"
try setpriv --reuid 65534 --clear-groups "$TOP/bench/run" vm --on-this-machine
ok "run: not without root" matches "$status $err" "^1 run: needs root"
try setpriv --reuid 65534 --clear-groups env MODES=madvise "$TOP/bench/run" pageout
ok "run: but where a setting can do without" matches "$status $err" "^1 .*say --on-this-machine"
try "$TOP/bench/run" nope
ok "run: an unknown scenario" is "$status $(wc -l <"$tmp/err")" "2 1"
ok "run: and which there are" matches "$err" "pageout.*vm"
# A kernel that has not what the settings name.
# shellcheck disable=SC2016 # the other bash expands these
try bash -c '. "$0/json.sh"; . "$0/scenario.sh"; note() { echo "$*" >&2; }; uname() { echo 5.10.0; }
	here=1 LRU_GEN=/nowhere DAMON=/nowhere
	by_reclaim classic mglru
	setting MODES "madvise classic mglru damon"
	setting LRUS "mglru"
	setting ROUNDS 3
	echo "$MODES, $LRUS, $ROUNDS"' "$TOP/bench"
ok "run: without MGLRU, DAMON and memory.reclaim" is "$(<"$tmp/out")" "madvise, classic, 3"
ok "run: says what is left out" matches "$err" "MODES is 'madvise', not 'madvise classic mglru damon'"

done_testing
