#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Test bench/days on days that are made up: prove bench/t/days.t

. "$(dirname "$0")/../../ci/lib.sh"
. "$TOP/ci/t/tap.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# day DATE RATE [METRIC RATIO LOW HIGH VERDICT BETTER]...: a directory of bench/pairs
day() {
	local dir=$tmp/$1 rate=$2 rows=()

	mkdir "$dir"
	printf '%s\n' '# by hand' "date=$1T00:00:00Z" host_cpu=a=b host_cores=2 series=1 >"$dir/env"
	shift 2
	while [[ $# -gt 0 ]]; do
		rows+=("$(printf '{"metric": "%s", "ratio": %s, "low": %s, "high": %s, "verdict": "%s", "better": "%s"}' \
			"${@:1:6}")")
		shift 6
	done
	printf '[{"scenario": "test", "kernels": {"patched": {"label": "patched"}},
		"settings": {"RATE": %s}, "metrics": [%s]}]\n' "$rate" "$(IFS=,; echo "${rows[*]}")" >"$dir/report.json"
}

none='no difference shown'
day 2026-01-01 10 \
	same 0.5 0.4 0.6 better lower \
	apart 0.5 0.4 0.6 better lower \
	once 0.5 0.4 1.6 "$none" lower \
	worse 2 1.5 null worse lower \
	neither 2 1.5 3 higher none
day 2026-01-02 20 \
	same 0.25 0.2 0.5 better lower \
	apart 0.8 0.7 0.9 better lower \
	once 0.5 0.4 0.6 better lower \
	worse null 1.5 null worse lower \
	neither 1 0.5 3 "$none" none
day 2026-01-03 10

run "$TOP/bench/days" "$tmp"/2026-01-0[12]
ok "two days" is "$status$err$out" "0- 2026-01-01T00:00:00Z: a=b, 2 cores, series 1
- 2026-01-02T00:00:00Z: a=b, 2 cores, series 1

Of 4 metrics 2 are better on all days, 1 on some; 1 are worse on all days, 0 on some.
The ratios of one that is better on all days differ by a factor of 1.8 (median), 2 at most.
The intervals of 1 are apart. A star is for what differs from base.

| scenario | metric | 2026-01-01 | 2026-01-02 | better is | intervals |
| --- | --- | --- | --- | --- | --- |
| test | apart | 0.5 (0.4 .. 0.6) * | 0.8 (0.7 .. 0.9) * | lower | apart |
| test | once | 0.5 (0.4 .. 1.6) | 0.5 (0.4 .. 0.6) * | lower |  |
| test | worse | 2 (1.5 .. inf) * | inf (1.5 .. inf) * | lower |  |

Settings that were not the same:

- test: RATE 10 and 20"
run "$TOP/bench/days" "$tmp"/2026-01-0[13]
ok "nothing in common" is "$status $out$err" \
	"1 days: nothing in common: give runs of the same scenarios and kernels"
run "$TOP/bench/days" "$tmp/2026-01-01" "$tmp/nowhere"
ok "no such directory" matches "$status $out$err" "^1 days: .*nowhere"
ok "in one line" one_line "$err"
done_testing
