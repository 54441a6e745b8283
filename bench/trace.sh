# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# TRACE=1 of bench/run: what its head says of it. bench/run reads it.

TRACING=/sys/kernel/tracing INSTANCE=''

# trace_start: into an instance of its own, as a scenario may trace as well.
trace_start() {
	local event

	setting TRACE 1
	[[ -d $TRACING/instances ]] || invalid "no $TRACING/instances: mount tracefs; the kernel needs tracing"
	mkdir "$TRACING/instances/bench.$$"
	INSTANCE=$TRACING/instances/bench.$$
	echo 4096 >"$INSTANCE/buffer_size_kb"
	for event in mm_vmscan_{direct,memcg}_reclaim_{begin,end} mm_vmscan_flush_batch; do
		[[ ! -e $INSTANCE/events/vmscan/$event ]] || echo 1 >"$INSTANCE/events/vmscan/$event/enable"
	done
}

# trace_before, trace_after: what is between two snapshots is traced, and nothing else,
# in a scenario that has any.
trace_before() {
	[[ -e $TMP/before ]] || echo >"$INSTANCE/trace"
	echo 1 >"$INSTANCE/tracing_on"
	echo "what has begun is not seen to end" >"$INSTANCE/trace_marker"
}

trace_after() { echo 0 >"$INSTANCE/tracing_on"; }

trace_remove() {
	[[ $INSTANCE ]] || return 0
	echo 0 >"$INSTANCE/events/enable"
	rmdir "$INSTANCE"
	INSTANCE=''
}

# trace_report: leaves lines "batch PAGES" and "reclaim MICROSECONDS" in TMP/traced.
trace_report() {
	local lost

	echo 0 >"$INSTANCE/tracing_on"
	lost=$(cat "$INSTANCE"/per_cpu/cpu*/stats | awk '/^overrun:/ { n += $2 } END { print n }')
	[[ $lost -eq 0 ]] || invalid "$lost events were lost: a shorter run is needed for tracing"
	awk '/^#/ { next }
		{
			for (i = 1; $i !~ /^\[[0-9]+\]$/; i++)
				;
			task = $(i - 1)
			time = $(i + 2) * 1e6
		}
		$(i + 3) == "tracing_mark_write:" { split("", start) }
		match($0, / nr_pages=[0-9]+/) && $(i + 3) ~ /flush_batch/ {
			print "batch", substr($0, RSTART + 10, RLENGTH - 10)
		}
		$(i + 3) ~ /_begin:$/ { start[task] = time }
		$(i + 3) ~ /_end:$/ && task in start {
			printf "reclaim %.0f\n", time - start[task]
			delete start[task]
		}' "$INSTANCE/trace" >"$TMP/traced"
	report_reclaims
	report_batches
}

report_reclaims() {
	local n

	awk '$1 == "reclaim" { print $2 }' "$TMP/traced" | sort -n >"$TMP/reclaims"
	n=$(wc -l <"$TMP/reclaims")
	[[ $n -gt 0 ]] || return 0
	distribution reclaim us "$TMP/reclaims"
	metric reclaim_count reclaims none "$n"
	SAMPLES+=("\"reclaim_histogram\": [$(uniq -c "$TMP/reclaims" |
		awk '{ printf "[%d,%d]\n", $2 * 1000, $1 }' | paste -sd,)]")
}

report_batches() {
	local batches

	batches=$(awk '$1 == "batch" { print $2 }' "$TMP/traced" | sort -n | uniq -c |
		awk '{ printf "[%d,%d]\n", $2, $1 }' | paste -sd,)
	[[ -z $batches ]] || SAMPLES+=("\"batches\": [$batches]")
}
