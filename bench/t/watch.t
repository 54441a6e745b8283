#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Test bench/watch, bench/machine: what they make of what the kernel says, what they
# refuse, and, in the guest, that the estimate made on base holds on patched, and that
# tracing is as before. Counts only. prove bench/t/watch.t

. "$(dirname "$0")/../../ci/lib.sh"
. "$TOP/ci/t/tap.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"	# a module there is would come first

# python CODE: with the modules of bench.
python() { run env PYTHONPATH="$TOP/bench" /usr/bin/python3 -B -c "$1"; }

# --- What is read ------------------------------------------------------------

# Two CPUs at once: the chain of an event may come after an event of another.
cat >"$tmp/trace" <<'END'
CPU:1 [LOST 7 EVENTS]
           kdamond-22      [001] d..1.  10.000000: tlb_flush: pages:-1 reason:remote IPI send (4)
           kdamond-22      [001] d..1.  10.000000: <stack trace>
 => native_flush_tlb_multi
 => shrink_folio_list
 => reclaim_pages
 => damon_pa_pageout
     my-task-3 1-11      [000] d..1.  10.000001: tlb_flush: pages:-1 reason:remote IPI send (4)
           kdamond-22      [001] d..1.  10.000002: mm_vmscan_reclaim_pages: nid=0 nr_scanned=600 nr_reclaimed=590
     my-task-3 1-11      [000] d..1.  10.000003: <stack trace>
 => trace_event_raw_event_tlb_flush
 => native_flush_tlb_multi
 => shrink_folio_list
 => shrink_lruvec
 => try_to_free_mem_cgroup_pages
           kdamond-22      [001] d..1.  10.000004: <stack trace>
 => reclaim_pages
 => damon_pa_pageout
           kdamond-44      [001] d..1.  10.000004: mm_vmscan_reclaim_pages: nid=0 nr_scanned=600 nr_reclaimed=1
           kdamond-44      [001] d..1.  10.000004: <stack trace>
 => reclaim_pages
 => damon_pa_pageout
              sh-33 (  33) [000] d..1.  10.000005: tlb_flush: pages:12 reason:remote IPI send (4)
              sh-33 (  33) [000] d..1.  10.000006: <stack trace>
 => native_flush_tlb_multi
 => __vm_munmap
END
python "
from live import tracing
class Fake(tracing.Instance):
    def __init__(self):
        self.lost = 0
    def lines(self):
        return open('$tmp/trace').read().split('\n')
tracing.Instance = lambda *_, **__: None
flushes = tracing.Flushes()
fake = Fake()
flushes.take(fake.events(), tracing.Window(3, 3, 11))
print(dict(flushes.by_origin), dict(flushes.reclaimed), {who: (row.passes, row.needed) for who, row in flushes.sums.items()}, fake.lost, dict(flushes.pages))"
ok "the trace is understood" is "$status$err" 0
ok "each event has its own chain, and the weight of its window" matches "$out" "'reclaim: DAMON': 3, 'reclaim: cgroup limit': 3, 'munmap': 3\}"
ok "a pass of DAMON, 600 pages: two flushes; one of a task that interrupts nobody: none" matches "$out" \
	"\{'DAMON': 1773\} .*'DAMON': \(3.0, 6.0\)"
ok "lost events are counted" matches "$out" "\} 7 \{-1: 6, 12: 3\}"
python "
from live import tracing
def error(*needed):
    sums = tracing.Sums()
    for count in needed:
        sums.add(100, 1, count)
    return sums.error()
print(error(2, 2), error(1, 3), error(5))"
ok "two windows alike: no error; 1 and 3 of 100: three times 2; one window: all" is "$out" "0.0 6.0 5"

python "
from live import tracing
pace = tracing.Pace(0.5, 0.0005, 0.05)
for seconds, used in (0.01, 0.0), (0.02, 0.0), (0.04, 0.0), (0.05, 0.4), (0.05, 0.001):
    pace.next(seconds, used, 0.002)
    print(round(pace.window, 4), end=' ')
pace.spoilt()
print(round(pace.window, 5), round(pace.seconds, 2))"
# 0.4 of 0.05 s, a quarter believed, is 2 s a second, and 1 ms are allowed: 0.5 ms
ok "a window: twice as long at most, no longer than it may be; soon shorter, slowly longer" \
	is "$out" "0.02 0.04 0.05 0.0005 0.0005 0.0005 0.17"
python "
import collections
from live import tracing
Event = collections.namedtuple('Event', 'pid time')
tracing.Instance = lambda *_, **__: None
flushes = tracing.Flushes()
window = tracing.Window(100, 2, 5)
window.flush(1, 'direct')
for pid, when in (1, 1), (1, 2), (2, 3), (1, 6), (3, 7):
    window.end_of_pass(Event(pid, when), 'direct', 1)
flushes.take_window(window)
print({who: (row.flushes, row.passes) for who, row in flushes.sums.items()})
flushes.by_task[4, 'reclaim: direct'] = 1
print([flushes.flushing((pid, 'direct')) for pid in (1, 2, 3, 4)], flushes.flushing((1, 'kswapd')))"
# Passes of task 1: half of three; of task 2: none; of task 3, not seen with flushes: a third;
# of task 4, of which flushes were seen: all
ok "a pass flushed if its task did before it; what is not known, as those that are" is "$out" \
	"{'direct': (100, 3.6666666666666665)}
[0.5, 0.0, 0.3333333333333333, 1.0] 0.0"

cat >"$tmp/stalls" <<'END'
     my-task-3 1-11      [000] .....  10.000001: mm_vmscan_memcg_reclaim_begin: order=0 gfp_flags=GFP_KERNEL
              sh-33 (  33) [001] d..1.  10.000002: mm_compaction_begin: zone_start=0x1 sync
CPU:1 [LOST 7 EVENTS]
     my-task-3 1-11      [001] .....  10.000031: mm_vmscan_memcg_reclaim_end: nr_reclaimed=32
              sh-33 (  33) [001] d..1.  10.000009: mm_compaction_end: zone_start=0x1 status=complete
              sh-34 (  33) [001] d..1.  10.000009: mm_vmscan_direct_reclaim_end: nr_reclaimed=5
END
python "
from live import tracing
class Fake:
    lost = 0
    def lines(self):
        return open('$tmp/stalls').read().split('\n')
tracing.Instance = lambda *_, **__: Fake()
stalls = tracing.Stalls()
stalls.read()
print({key: [round(one) for one in usec] for key, usec in stalls.usec.items()}, dict(stalls.pages), stalls.instance.lost)"
ok "stalls, begin to end; not one that had begun before" is "$out" \
	"{('reclaim of a cgroup', 11): [30], ('compaction', 33): [7]} {'reclaim of a cgroup': 32, 'compaction': 0} 7"

# who FUNCTION...: who reclaims, if anybody does.
who() {
	python "from live import tracing; print(tracing.reclaimer(tuple('$*'.split())))"
	echo "$out"
}
ok "kswapd" is "$(who shrink_folio_list shrink_node balance_pgdat)" kswapd
ok "MADV_PAGEOUT" is "$(who shrink_folio_list reclaim_pages do_madvise)" MADV_PAGEOUT
ok "a fault in another madvise is none" is "$(who shrink_folio_list try_to_free_mem_cgroup_pages do_madvise)" "cgroup limit"
ok "memory.reclaim" is "$(who shrink_folio_list try_to_free_mem_cgroup_pages memory_reclaim)" memory.reclaim
ok "before 5.18" is "$(who shrink_page_list try_to_free_pages)" direct
ok "migration flushes by try_to_unmap_flush, too" is "$(who try_to_unmap_flush migrate_pages_batch)" None

python "
from live.counters import fragmentation, unusable
print(unusable([4, 2, 1], 2), fragmentation([4, 2, 1], 2), fragmentation([8, 4, 0], 2), unusable([0], 0))"
# 1 - (1 + 16 / 4) / 12 = 0.583, rounded as the kernel does
ok "fragmentation, by hand" is "$out" "0.6666666666666666 -1.0 0.584 1.0"

# --- The estimate, by hand ---------------------------------------------------

cat >"$tmp/estimate.py" <<'END'
import sys
from live.estimate import estimate, money
point = lambda others, *us: {'others': others, 'us': us, 'ipis': others}
seen = {'cpus': 4, 'flushes_per_second': 1000, 'ipis_per_second': 3000, 'sender_counted': False,
        'sample': {'reclaim: kswapd': 320, 'exit': 80}, 'needed': {'kswapd': (10, 0)},
        'pages': {'kswapd': 320}, 'us_per_page': {'kswapd': 20.0}, 'noise': 0, 'pages_per_second': 800,
        'cost': {'method': 'MADV_PAGEOUT', 'victim_us': 1, 'points': [point(0, 4, 90, 4), point(3, 10, 90, 12)]}}
exec(sys.argv[1])
got = estimate(seen)
print({key: [round(end, 4) for end in got[key]] for key in ('ipis_left', 'saved', 'flush_us') if got[key]})
print(got['reclaimers'].get('kswapd', {}).get('us_per_page_after'), got['verdict'], money([0.01, 0.02], 1))
END
guess() { run env PYTHONPATH="$TOP/bench" /usr/bin/python3 -B "$tmp/estimate.py" "$1"; }
guess 'pass'
ok "one flush for a pass, or two: 90 .. 100 of 400 left" matches "$out" "'ipis_left': \[0.225, 0.25\]"
ok "a flush: the least, to the mean" matches "$out" "'flush_us': \[6\.0, 8\.0\]"
# 800 flushes/s of reclaim, of (6 + 3) and (8 + 3) us, on 4 CPUs: 0.18 and 0.22 %; 15/16, 31/32 of it
ok "what is saved" matches "$out" "'saved': \[0.0017, 0.0021\]"
ok "a page: 20 us less 31/32 of 8, or 15/16 of 6" matches "$out" "\[12.25, 14.375\]"
ok "a year has 8766 hours" matches "$out" "\[87.66, 175.32\]"
guess 'seen["cost"]["method"] = "MADV_DONTNEED"'
ok "MADV_DONTNEED: up to twice" matches "$out" "'flush_us': \[6\.0, 16\.0\]"
guess 'seen["needed"] = {"kswapd": (10, 2)}'
ok "with its error: 8 of 320, or 24" matches "$out" "'ipis_left': \[0.22, 0.26\]"
guess 'seen["needed"] = {}'
ok "passes that are not seen: 512 to 32 pages" matches "$out" "'ipis_left': \[0.2016, 0.225\]"
guess 'seen["pages_per_second"] = 3'
ok "not under reclaim" matches "$out" "This machine is not under reclaim: 3.0 pages a second"
guess 'seen["noise"] = 0.01'
ok "less than the noise" matches "$out" "Batching would save less than the noise: at most 0.21 %"
guess 'seen.update(ipis_per_second=4000, sender_counted=True)'
ok "the sender counted, too: the same" matches "$out" "'saved': \[0\.0017, 0\.0021\]"
guess 'seen["cost"]["points"] = []'
ok "no cost: no time, but counts" matches "$out" "could not be measured.* 22 .. 25 % would be left"

# --- What is refused ---------------------------------------------------------

nobody=()
[[ $EUID -ne 0 ]] || nobody=(setpriv --reuid 65534 --clear-groups)
python "
from live import tracing
tracing.lockdown = lambda: 'confidentiality'
try:
    tracing.find_tracefs()
except tracing.Unavailable as refusal:
    print(refusal)"
ok "lockdown" matches "$out" "locked down \(confidentiality\)"
python "
from live import tracing
import builtins, io
builtins.open = lambda *_, **__: io.StringIO('nodev proc')
try:
    tracing.find_tracefs()
except tracing.Unavailable as refusal:
    print(refusal)"
ok "no tracefs" matches "$out" "no tracefs: it needs CONFIG_EVENT_TRACING"
cp -r "$TOP/bench" "$tmp/bench"
chmod -R a+rX "$tmp"
run "${nobody[@]}" "$tmp/bench/watch" 1
ok "no root: one line" matches "$status $err" "^1 watch: needs root"
ok "and no more" one_line "$err"
run "$TOP/bench/watch"
ok "neither SECONDS nor COMMAND" is "$status" 2
run "$TOP/bench/watch-cost" x
ok "watch-cost: no number" matches "$status $err" "^1 usage: bench/watch-cost"
PYTHONPATH="$TOP/bench" run /usr/bin/python3 -B -c 'import importlib.machinery as m
cost = m.SourceFileLoader("cost", "'"$TOP"'/bench/watch-cost").load_module()
print(cost.interval([1] * 10 + [2] * 80 + [3] * 10), cost.interval(list(range(100))))'
# Of 100, the 41st to the 60th: 50 -+ 0.98 * 10, binomial
ok "the median and its interval" is "$out" "(2, 2, 2) (50, 40, 59)"
run "$TOP/bench/machine" "two words"
ok "machine: a bad name" matches "$status $err" "^1 machine: NAME two words: a word"

# refused NAME TEXT WHY: a file of a machine.
refused() {
	echo "$2" >"$tmp/$1"
	run "$TOP/bench/machine" --table "$tmp/$1"
	matches "$status $err" "^1 machine: $tmp/$1: $3"
}
whole='{"schema": 1, "kind": "machine", "name": "mine", "date": "1", "kernel": "7.3", "cpu_model": "none",
 "cpus": 4, "topology": "", "swap": "zram", "virtual": false,
 "points": [{"others": 0, "us_per_page": [10, 11, 12]}, {"others": 3, "us_per_page": [40, 50, 60]}]}'
echo "$whole" >"$tmp/mine.json"
run "$TOP/bench/machine" --table "$tmp/mine.json"
ok "a machine: 10 us alone, each of three other CPUs adds 10" matches "$out" \
	"\| mine: none \| 4 \| 7.3 \| zram \| 10.0 \| 40.0 \| 10.0 \|"
run "$TOP/bench/machine" --table
ok "the machines of results/" matches "$status $out" "^0 \| machine .*epyc-2-vcpus"
ok "they are those of bench/README.md" is "$(comm -23 <(sort <<<"$out") <(sort "$TOP/bench/README.md"))" ""
ok "no machine" refused no.json '{"schema": 1}' "not a file of bench/machine"
ok "half of one" refused half.json "${whole:0:100}" "cannot be read as JSON"
ok "no points" refused lacks.json "${whole/points/dots}" "lacks points"
ok "a time that is none" refused time.json "${whole/11/\"11\"}" "a point needs"
ok "a time too few" refused time.json "${whole/11, /}" "a point needs"
ok "nothing with 0 others" refused others.json "${whole/\"others\": 0/\"others\": 2}" "points must begin with 0"
ok "points that go down" refused down.json "${whole/\"others\": 3/\"others\": 0}" "points must begin with 0"

# --- In the guest ------------------------------------------------------------

"$TOP/bench/guest-python" "$tmp/python"
cat >"$tmp/guest" <<'END'
# So many rounds that passes are in the sample.
export MODES=madvise REGION_MIB=16 ROUNDS=15 OTHERS=0
watch="/python/bin/python3 -B /bench/watch"
state() { cd /sys/kernel/tracing && ls instances && cat tracing_on set_event trace_options; cd /; }
if [ "$1" = base ]; then
	state >/tmp/before
	mkdir /sys/kernel/tracing/instances/bench-watch.9999999.stalls
	$watch --no-flush-cost --interval 0.5 30 -o /tmp/cut.json & pid=$!
	until [ -e "/sys/kernel/tracing/instances/bench-watch.$pid.flushes/tracing_on" ]; do sleep 0.1; done
	$watch 1 2>&1; echo "second $?"
	kill -INT $pid; wait $pid; echo "interrupted $?"
	$watch --no-flush-cost 30 & pid=$!
	until [ -e "/sys/kernel/tracing/instances/bench-watch.$pid.flushes/tracing_on" ]; do sleep 0.1; done
	kill -TERM $pid; wait $pid; echo "terminated $?"
	$watch --no-flush-cost -- /bench/run pageout -o /tmp/run.json -x 2>&1; echo "failed $?"
	swapoff -a
	$watch --no-flush-cost 1 | grep "No swap"
	swapon /dev/zram0
	$watch -o /tmp/watch.json --interval 0.3 -- /bench/run pageout -o /tmp/run.json
	state | cmp - /tmp/before && echo "tracing is as before"
	echo; cat /tmp/watch.json
else
	/bench/run pageout -o /tmp/run.json
fi >/tmp/log 2>&1
cat /tmp/log; cat /tmp/run.json
END

# guest KERNEL: sets out
guest() {
	run "$TOP/ci/vm-run" -k "$BUILD/$1/bzImage" -c 2 -m 384 --add "$tmp/python" --add "$tmp/guest" \
		--add "$TOP/bench" --add "$TOP/ci" -- bash /guest "$1"
}

# value EXPRESSION: of w, the watch, and of b and p, the metrics of base and patched.
value() {
	/usr/bin/python3 -c 'import json, sys
def last(path, kinds):
    found, text, decoder = [], open(path).read(), json.JSONDecoder()
    for at in [at for at in range(len(text)) if text.startswith("{\n \"schema\"", at)]:
        found.append(decoder.raw_decode(text[at:])[0])
    return found
w, b = last(sys.argv[1] + "/base", 2)
[p] = last(sys.argv[1] + "/patched", 1)
b, p = ({key: value["value"] for key, value in one["metrics"].items()} for one in (b, p))
print(eval(sys.argv[2]))' "$tmp" "$1"
}
for kernel in patched base; do
	guest $kernel
	ok "$kernel: the guest ends well" is "$status" 0
	echo "$out" >"$tmp/$kernel"
done
ok "two at once" matches "$out" "watch: another bench/watch runs.*second 1"
ok "Ctrl-C" matches "$out" "watch: interrupted; tracing is as it was before.*interrupted 130"
ok "SIGTERM" matches "$out" "terminated 143"
ok "COMMAND fails" matches "$out" "watch: /bench/run: ended with status 1.*failed 1"
ok "no swap" matches "$out" "note: No swap"
ok "tracing is as before, and without what a killed one left" matches "$out" "tracing is as before"
ok "most flushes are of MADV_PAGEOUT" is "$(value 'w["tlb"]["by_origin"]["reclaim: MADV_PAGEOUT"] > 0.5 * sum(w["tlb"]["by_origin"].values())')" True
# Linux 6.12 has no event for them.
seen=False
! grep -q mm_vmscan_reclaim_pages "$BUILD/src/include/trace/events/vmscan.h" || seen=True
ok "passes of MADV_PAGEOUT are seen, where there is an event: $seen" \
	is "$(value 'w["tlb"]["passes"].get("MADV_PAGEOUT", 0) > 0')" $seen
ok "an IPI for a page on base" is "$(value '0.9 < b["madvise_tlb_ipis_per_page"] < 1.2')" True
echo "# estimated $(value '[b["madvise_tlb_ipis_per_page"] * end for end in w["estimate"]["reclaimers"]["MADV_PAGEOUT"]["share_left"]]'), patched has $(value 'p["madvise_tlb_ipis_per_page"]')"
# It is a sample: bench/forecast asks for the range itself.
ok "the estimate of base is right within a factor of two" is "$(value '(lambda low, high, other: low / 2 <= p["madvise_tlb_ipis_per_page"] <= 2 * high + other)(
	*(b["madvise_tlb_ipis_per_page"] * end for end in w["estimate"]["reclaimers"]["MADV_PAGEOUT"]["share_left"]), 2 / 512)')" True
ok "what a flush costs was measured" is "$(value '[point["others"] for point in w["flush_cost"]["points"]]')" "[0, 1]"
done_testing
