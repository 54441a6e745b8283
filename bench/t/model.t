#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Test bench/model on runs that follow the model: prove bench/t/model.t

. "$(dirname "$0")/../../ci/lib.sh"
. "$TOP/ci/t/tap.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# pageout LABEL CPUS FLUSHES [COST [SWAP]]: a run with so many flushes for a page, of
# which all other CPUs get an IPI; COST us for a page and 5 us for an IPI.
pageout() {
	awk -v label="$1" -v n="$2" -v flushes="$3" -v cost="${4:-10}" -v swap="${5:-zram}" 'BEGIN {
		ipis = (n - 1) * flushes
		printf "{\"schema\": 1, \"scenario\": \"pageout\", \"valid\": true, \"settings\": {},\n"
		printf " \"kernel\": {\"label\": \"%s\"},\n", label
		printf " \"env\": {\"date\": \"1\", \"cpus\": %d, \"host_cpus\": 4, \"swap\": \"%s\"},\n", n, swap
		printf " \"metrics\": {\"madvise_tlb_ipis_per_page\": {\"value\": %g},\n", ipis
		printf "  \"madvise_flushes_per_page\": {\"value\": %g},\n", flushes
		printf "  \"madvise_time_per_page\": {\"value\": %g}}}\n", cost + 5 * ipis
	}'
}

mkdir "$tmp/sweep" "$tmp/check"
for n in 2 4 8; do
	for flushes in 1 0.125 0.03125 0.01; do
		pageout "cap-$flushes" "$n" "$flushes"
	done >"$tmp/sweep/zram-$n-cap.json"
done
pageout base 2 1 >"$tmp/check/base.json"
pageout patched 2 0.02 20 >"$tmp/check/patched.json"

run "$TOP/bench/model" "$tmp/sweep" --check "$tmp/check" --page-cost 10,40 --ipi-cost 2 --cpus 11,41
ok "succeeds" is "$status$err" 0
ok "is marked as a model" matches "$out" "This is a model, not a measurement"
ok "IPIs per flush on 8 CPUs: 7, as the model has it" matches "$out" \
	'\| 8 \| 7 \| 7 \| 7 \.\. 7 \| 0\.0 % \| 4 \|'
ok "finds 10 us for a page, 5 us for an IPI" matches "$out" \
	'\| madvise, zram \| 10\.0 \| 5\.0 \| 100\.0 % \| 8 \|'
ok "no error where a run follows it" matches "$out" \
	'\| madvise, zram \| base \| 15\.0 \| 15\.0 \.\. 15\.0 \| 15\.0 \| \+0 % \| 1 \|'
ok "an error where a run does not: 10.1 for 20.1" matches "$out" \
	'\| patched \| 20\.1 \| 20\.1 \.\. 20\.1 \| 10\.1 \| -50 % \| 1 \|'
# (10 + 2 * 10) / (10 + 2 * 10 / 50), (40 + ...) / ..., and with 40 other CPUs
ok "the gain: 30 / 10.4 and 60 / 40.4, 90 / 11.6 and 120 / 41.6" matches "$out" \
	'\| --ipi-cost \| 2\.00 \| madvise \| 50 \| 1\.5 \.\. 2\.9 \| 2\.9 \.\. 7\.8 \|'
ok "says what is extrapolated" matches "$out" '\| Haswell \| 0\.25 \| madvise \| 50 \| [0-9. ]+ \* \|'
ok "every cost has a source" is "$(grep -c '^- .* us: .*<https://.*>$' <<<"$out")" 5


# A machine that takes 10 us for a page alone, and 40 with 3 other CPUs.
cat >"$tmp/machine.json" <<'END'
{"schema": 1, "kind": "machine", "name": "mine", "date": "1", "kernel": "7.3", "cpu_model": "none", "cpus": 4,
 "topology": "", "swap": "zram", "virtual": false,
 "points": [{"others": 0, "us_per_page": [10, 11, 12]}, {"others": 3, "us_per_page": [40, 50, 60]}]}
END
run "$TOP/bench/model" "$tmp/sweep" --check "$tmp/check" --machines "$tmp/machine.json" --cpus 4,11
# 40 / (10 + 30 / 50) on its own, (10 + 100) / (10 + 100 / 50) on 11
ok "a machine that was measured" matches "$out" '\| mine \| 4 \| 10\.0 \| 10\.00 \| madvise \| 50 \| 3\.8 \| 3\.8 \| 9\.2 \* \|'
run "$TOP/bench/model" "$tmp/sweep" --check "$tmp/check" --machines "$tmp/check/base.json"
ok "a file that is no machine: one line" matches "$status $err" "^1 model: .*base.json: not a file of bench/machine"
run "$TOP/bench/model" "$tmp/sweep" --check "$tmp/check"
ok "also those of a page" is "$(grep -c '^- .* us: .*<https://.*>$' <<<"$out")" 8
run "$TOP/bench/model" "$tmp/sweep/zram-8-cap.json" --check "$tmp/check"
ok "counts without times: no times are fitted" not matches "$out" "Time per page"

run "$TOP/bench/model" "$tmp/sweep" --check "$tmp/check/base.json"
ok "without runs of patched: one line, status 1" is "$status $(wc -l <<<"$err")" "1 1"
ok "and what is missing" matches "$err" "no run of pageout on patched"
head -c 300 "$tmp/sweep/zram-2-cap.json" >"$tmp/sweep/half.json"
run "$TOP/bench/model" "$tmp/sweep" --check "$tmp/check"
ok "a truncated file" matches "$status $err" "1 .*half.json: cannot be read as JSON"
ok "and only one line" one_line "$err"
run "$TOP/bench/model" "$TOP"/results/batch-size-zram --check "$TOP/results/all-scenarios/pageout"
ok "the runs in results/" matches "$status $err $out" "^0  .*mglru, zram|classic, zram"
done_testing
