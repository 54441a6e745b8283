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
	mkdir -p "$tmp/tree/ci" "$tmp/build/"{base,patched}
	cp -r "$TOP/bench" "$tmp/tree"
	cp "$TOP/ci/lib.sh" "$tmp/tree/ci"
	touch "$tmp/build/"{base,patched}/bzImage
	cat >"$tmp/tree/ci/vm-run" <<'END'
#!/usr/bin/env bash
echo "$*" >>"$CALLS"
n=$(wc -l <"$CALLS")
scenario=${!#}
[[ $* =~ KERNEL_LABEL=([a-z]*) ]]
cat <<JSON
{"schema": 1, "scenario": "$scenario", "valid": true, "settings": {},
 "kernel": {"label": "${BASH_REMATCH[1]}", "release": "7.3", "config_sha256": ""},
 "env": {"date": "$(printf %04d "$n")", "cpus": 2, "host_cpus": 2, "mem_mib": 1, "swap": "", "accel": ""},
 "metrics": {"x": {"value": $n, "unit": "s", "better": "lower"}}}
JSON
if [[ $n == "${FAIL_AT:-}" ]]; then
	echo "run: INVALID RUN of $scenario: it broke" >&2
	exit 1
fi
END
	chmod +x "$tmp/tree/ci/vm-run"
	export CALLS=$tmp/calls BUILD=$tmp/build
}

# pairs [NAME=VALUE...]: run it afresh.
pairs() {
	rm -rf "$tmp/calls" "$tmp/build/bench"
	try env "$@" "$tmp/tree/bench/pairs"
}

# order: the kernels and scenarios that were run, in turn.
order() { sed 's/.*KERNEL_LABEL=\([a-z]*\) .*run \([a-z]*\)$/\1:\2/' "$tmp/calls" | tr '\n' ' '; }

files() { (cd "$tmp"/build/bench/* && find . -type f | LC_ALL=C sort | tr '\n' ' '); }

make_tree

pairs PAIRS=2 CPUS=2 DURATION=7 SETTINGS="A=1 B=2"
ok "pairs: succeeds" is "$status" 0
ok "pairs: the kernels take turns" is "$(order)" \
	"base:pageout patched:pageout base:vm patched:vm base:pageout patched:pageout base:vm patched:vm "
ok "pairs: raw data, environment and reports" is "$(files)" \
	"./env ./log ./pageout/base-01.json ./pageout/base-02.json ./pageout/patched-01.json ./pageout/patched-02.json ./report.json ./report.md ./vm/base-01.json ./vm/base-02.json ./vm/patched-01.json ./vm/patched-02.json "
ok "pairs: CPUs, memory, settings" matches "$(head -n1 "$tmp/calls")" \
	"-c 2 -m 1024 .*DURATION=7 A=1 B=2 /bench/run pageout"
ok "pairs: prints the comparison" matches "$(<"$tmp/out")" "vm:.*pairs: 2"
ok "pairs: shows progress" matches "$err" "vm on patched, run 8 of 8, [0-9]+ s so far, about [0-9]+ s to go"

pairs PAIRS=2 FAIL_AT=3
ok "pairs: a failed run ends it" is "$status" 1
ok "pairs: nothing is tried again" is "$(wc -l <"$tmp/calls")" 3
ok "pairs: says what broke" matches "$err" "INVALID RUN of vm: it broke"
ok "pairs: and where" matches "$err" "vm/base-01.json failed with status 1: see .*/log"
ok "pairs: keeps no half of a run" is "$(files)" \
	"./env ./log ./pageout/base-01.json ./pageout/patched-01.json "

pairs KERNELS="base absent"
ok "pairs: a kernel that is not there" matches "$err" "no kernel .*/absent/bzImage"
pairs KERNELS=base
ok "pairs: one kernel" matches "$err" "name two"
pairs SCENARIO=nope
ok "pairs: an unknown scenario" matches "$err" "no scenario 'nope'"
pairs PAIRS=0
ok "pairs: no pairs" matches "$err" "not a number of pairs"
ok "pairs: nothing was run" not test -e "$tmp/calls"

try "$TOP/bench/run" list
ok "run: lists every scenario" is "$(awk '{ print $1 }' "$tmp/out")" "$(ls "$TOP/bench/scenarios")"
try "$TOP/bench/run" nope
ok "run: an unknown scenario" is "$status $(wc -l <"$tmp/err")" "2 1"
ok "run: and which there are" matches "$err" "pageout.*vm"
done_testing
