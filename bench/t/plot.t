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

# a_run LABEL DATE CPUS: the JSON of a run. Those of an odd DATE take 8.5 us and do 16
# operations, the others half of that; but the first takes 6.8 us. Those of DATE 2
# and 4 tell of batches.
a_run() {
	local odd=$(($2 % 2)) usec=(4.25 8.5) batches=([2]='[1, 2], [31, 90]' [4]='[31, 7], [32, 1]')

	[[ $2 != 1 ]] || usec[1]=6.8
	cat <<-END
		{"schema": 1, "scenario": "test", "valid": true, "settings": {},
		 "kernel": {"label": "$1", "release": "7.3", "config_sha256": ""},
		 "env": {"date": "$2", "cpus": $3, "host_cpus": 4, "mem_mib": 1, "swap": "zram", "accel": "tcg"},
		 "metrics": {
		  "madvise_tlb_ipis_per_page": {"value": $3, "unit": "IPIs/page", "better": "lower"},
		  "madvise_time_per_page": {"value": ${usec[odd]}, "unit": "us/page", "better": "lower"},
		  "ops": {"value": $((8 + odd * 8)), "unit": "ops/s", "better": "higher"},
		  "size": {"value": 1, "unit": "pages", "better": "none"}},
		 "samples": {"madvise_histogram": [[1000, 90], [$((2000 * $2)), 10]],
		  "reclaim_histogram": [[5000, 3]]${batches[$2]+, \"batches\": [${batches[$2]}]}}}
	END
}

mkdir runs
for pair in 1 2 3 4 5 6; do
	a_run base $((2 * pair - 1)) 2 >"runs/base-$pair.json"
	a_run patched $((2 * pair)) 2 >"runs/patched-$pair.json"
done
a_run base 20 4 >base-4.json
"$TOP/bench/compare" 'runs/base*' 'runs/patched*' --json report.json >/dev/null

run "$TOP/bench/plot" -o out runs base-4.json report.json
ok "succeeds" is "$status$err" 0
ok "every plot, as SVG and PNG" is "$(cd out && echo *)" \
	"batch-size.png batch-size.svg direct-reclaim.png direct-reclaim.svg fault-latency.png fault-latency.svg ipis-per-page.png ipis-per-page.svg reclaim-latency.png reclaim-latency.svg throughput.png throughput.svg"
ok "says what it wrote" is "$(sort <<<"$out")" "$(printf '%s\n' out/* | sort)"
ok "PNG" is "$(head -c 4 out/throughput.png | tail -c 3)" PNG
ok "SVG" matches "$(head -n 5 out/throughput.svg)" "<svg "

ok "throughput: half the time per page is twice the pages" matches "$(text out/throughput.svg)" \
	"2  \(1\.6 \.\. 2\)  better"
ok "throughput: half the operations are half" matches "$(text out/throughput.svg)" \
	"0\.5  \(0\.5 \.\. 0\.5\)  worse"
ok "throughput: nothing of what is neither better nor worse" not matches \
	"$(text out/throughput.svg)" size
ok "throughput: where and how often" matches "$(text out/throughput.svg)" \
	"test, 2 CPUs \(tcg\), swap zram, 6 pairs"
ok "reclaim-latency: the medians" is \
	"$(text out/reclaim-latency.svg | grep -xE '4.25|[68]\.[58]' | xargs)" "8.5 4.25"
mkdir capped
cp runs/base-1.json capped/base-01.json
a_run cap-31 2 2 >capped/cap-31-01.json
run "$TOP/bench/plot" --only reclaim-latency -o capped capped
ok "reclaim-latency: a kernel whose name is like a sweep's file" is \
	"$(text capped/reclaim-latency.svg | grep -xE 'base|cap-31' | xargs)" "base cap-31"
ok "ipis-per-page: the numbers of CPUs" is "$(text out/ipis-per-page.svg | grep -xE '[24]' | xargs)" "2 4"
ok "fault-latency: how many runs" matches "$(text out/fault-latency.svg)" "base, 6 runs.*patched, 6 runs"
ok "direct-reclaim: the latencies of reclaims" is "$(text out/direct-reclaim.svg | grep '^test' | sort -u)" "test, reclaim"
ok "fault-latency: not these" is "$(text out/fault-latency.svg | grep '^test' | sort -u)" "test, madvise"
ok "batch-size: how many batches, how many pages" matches "$(text out/batch-size.svg)" \
	"patched \(100 batches\).*patched \(3041 pages\)"
ok "batch-size: up to the largest" is "$(text out/batch-size.svg | grep -cx '17 - 32')" 2

# The same for another user in another place.
echo "axes.facecolor: red" >matplotlibrc
run env HOME="$tmp/home" PYTHONHASHSEED=7 TZ=Asia/Tokyo LC_ALL=C \
	"$TOP/bench/plot" -o again runs base-4.json report.json
ok "byte for byte the same" diff -r out again
ok "no date, no version" is "$(grep -lEi 'dc:date|matplotlib v|Software' out/*)" ""

run "$TOP/bench/plot" --only throughput --metrics '^ops$' -o chosen report.json
ok "--only, --metrics" is "$(echo chosen/*) $(text chosen/throughput.svg | grep -c '(')" \
	"chosen/throughput.png chosen/throughput.svg 2"
run "$TOP/bench/plot" --only throughput --metrics size -o none report.json
ok "--metrics of what is neither better nor worse" matches "$status $err" "1 .*nothing for throughput"
run "$TOP/bench/plot" --kernels patched -o one runs
ok "--kernels: runs" is "$(text one/fault-latency.svg | grep ' runs$')" "patched, 6 runs"
ok "--kernels: one is not compared" not test -e one/reclaim-latency.svg

# What bench/machine and bench/watch write.
run "$TOP/bench/plot" -o machines "$TOP/results/machines"
ok "flush-cost: what a page takes, and each other CPU" matches "$status $(text machines/flush-cost.svg)" \
	"^0 .*epyc-2-vcpus: [0-9.]+ us \+ [0-9.]+ for each"
cat >watch.json <<-'END'
	{"schema": 1, "kind": "watch", "kernel": "7.3", "cpus": 2,
	 "series": [{"seconds": 1, "reclaimed": 5, "swapped_out": 4, "tlb_ipis": 3}, {"seconds": 2, "reclaimed": 5, "swapped_out": 4, "tlb_ipis": 3}],
	 "tlb": {"by_origin": {"reclaim: kswapd": 3, "exit": 1}}, "estimate": {"verdict": "Nothing to save."}}
	END
run "$TOP/bench/plot" -o watch watch.json
ok "watch: who sent the flushes, and the verdict" matches "$status $(text watch/watch.svg)" \
	"^0 .*exit.*reclaim: kswapd.*Nothing to save\."

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
ok "no file after an error" is "$(ls none)" ""
done_testing
