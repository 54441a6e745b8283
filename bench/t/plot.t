#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Test bench/plot: what is drawn, and that it is the same each time. The text in
# an SVG stands there as a comment, too. prove bench/t/plot.t

. "$(dirname "$0")/../../ci/lib.sh"
. "$TOP/ci/t/tap.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

# text FILE: the words in an SVG.
text() { sed -n 's/.*<!-- \(.*\) -->.*/\1/p' "$1"; }

# a_run LABEL DATE CPUS: the JSON of a run.
a_run() {
	cat <<-END
		{"schema": 1, "scenario": "test", "valid": true, "settings": {},
		 "kernel": {"label": "$1", "release": "7.3", "config_sha256": ""},
		 "env": {"date": "$2", "cpus": $3, "host_cpus": 4, "mem_mib": 1, "swap": "zram", "accel": "tcg"},
		 "metrics": {
		  "madvise_tlb_ipis_per_page": {"value": $3, "unit": "IPIs/page", "better": "lower"},
		  "madvise_time_per_page": {"value": $((4 + $2 % 2 * 4)), "unit": "us/page", "better": "lower"},
		  "ops": {"value": $((8 + $2 % 2 * 8)), "unit": "ops/s", "better": "higher"},
		  "size": {"value": 1, "unit": "pages", "better": "none"}},
		 "samples": {"madvise_histogram": [[1000, 90], [$((2000 * $2)), 10]]}}
	END
}

mkdir runs
for pair in 1 2 3 4 5 6; do
	a_run base $((2 * pair - 1)) 2 >"runs/base-$pair.json"
	a_run patched $((2 * pair)) 2 >"runs/patched-$pair.json"
done
a_run base 20 4 >base-4.json
"$TOP/bench/compare" 'runs/base*' 'runs/patched*' --json report.json >/dev/null
printf '%s\n' '# pages count' '1 2 # two' '' '31 97' '32 1' >runs/patched.batches

run "$TOP/bench/plot" -o out runs base-4.json report.json
ok "succeeds" is "$status$err" 0
ok "every plot, as SVG and PNG" is "$(cd out && echo *)" \
	"batch-size.png batch-size.svg fault-latency.png fault-latency.svg ipis-per-page.png ipis-per-page.svg reclaim-latency.png reclaim-latency.svg throughput.png throughput.svg"
ok "says what it wrote" is "$(sort <<<"$out")" "$(printf '%s\n' out/* | sort)"
ok "PNG" is "$(head -c 4 out/throughput.png | tail -c 3)" PNG
ok "SVG" matches "$(head -n 5 out/throughput.svg)" "<svg "

# base takes 8 us and does 16 ops/s, patched 4 us and 8 ops/s.
ok "throughput: half the time per page is twice the pages" matches "$(text out/throughput.svg)" \
	"2  \(2 \.\. 2\)  better"
ok "throughput: half the operations are half" matches "$(text out/throughput.svg)" \
	"0\.5  \(0\.5 \.\. 0\.5\)  worse"
ok "throughput: nothing of what is neither better nor worse" not matches \
	"$(text out/throughput.svg)" size
ok "throughput: where and how often" matches "$(text out/throughput.svg)" \
	"test, 2 CPUs \(tcg\), swap zram, 6 pairs"
ok "reclaim-latency: the medians" is \
	"$(text out/reclaim-latency.svg | grep -xE '[48]' | sort -u | xargs)" "4 8"
ok "ipis-per-page: the numbers of CPUs" is "$(text out/ipis-per-page.svg | grep -xE '[24]' | xargs)" "2 4"
ok "fault-latency: how many runs" matches "$(text out/fault-latency.svg)" "base, 6 x.*patched, 6 x"
ok "batch-size: how many batches, how many pages" matches "$(text out/batch-size.svg)" \
	"patched \(100 batches\).*patched \(3041 pages\)"
ok "batch-size: up to the largest" is "$(text out/batch-size.svg | grep -cx '17 - 32')" 2

# The same for another user in another place.
mkdir -p home/.config/matplotlib
echo "lines.linewidth: 9" >home/.config/matplotlib/matplotlibrc
run env HOME="$tmp/home" PYTHONHASHSEED=7 TZ=Asia/Tokyo LC_ALL=C \
	"$TOP/bench/plot" -o again runs base-4.json report.json
ok "byte for byte the same" diff -r out again
ok "no date, no version" is "$(grep -lEi 'dc:date|matplotlib v|Software' out/*)" ""

run "$TOP/bench/plot" --only throughput --metrics '^ops$' -o chosen report.json
ok "--only, --metrics" is "$(echo chosen/*) $(text chosen/throughput.svg | grep -c '(')" \
	"chosen/throughput.png chosen/throughput.svg 2"
run "$TOP/bench/plot" --only fault-latency --kernels patched -o one runs
ok "--kernels" is "$(text one/fault-latency.svg | grep ' x$')" "patched, 6 x"

a_run base 1 8 >shared.json
run "$TOP/bench/plot" --only fault-latency -o none shared.json
ok "no times where vCPUs share cores" matches "$status $err" "1 .*nothing for fault-latency"
run "$TOP/bench/plot" -o none runs/base-1.json --only batch-size
ok "nothing to draw: one line" matches "$status $err" "^1 plot: nothing for batch-size"
ok "and no files" is "$(ls none)" ""
head -c 200 report.json >half.json
run "$TOP/bench/plot" -o none half.json runs
ok "a truncated file" matches "$status $err" "1 plot: half.json: cannot be read as JSON"
ok "and only one line" one_line "$err"
echo '31 many' >>runs/patched.batches
run "$TOP/bench/plot" -o none runs
ok "a line that is no batch" matches "$status $err" 'patched.batches:6: not "PAGES COUNT"'
ok "no file after an error" is "$(ls none)" ""
done_testing
