# SPDX-License-Identifier: GPL-2.0-only
#
# Find what a kernel complains about in its console output: print it with the
# lines that explain it, and exit with 0, or with 1 when there is nothing.
#	awk -f ci/splat.awk CONSOLE_LOG
# With -v names=1 print a line for each complaint: its head, without what changes
# from run to run, and the locks and the place that it is about.

BEGIN {
	CONTEXT = 100	# lines shown from the head of a splat on
	LIMIT = 400	# lines shown in all

	# How a line of a splat's head begins, by what prints it:
	head["any"] = "(WARNING|BUG|Oops|UBSAN)[: ]"
	head["watchdog"] = "(NMI )?watchdog: (BUG: |.*detected hard LOCKUP)"
	head["workqueue"] = "workqueue: BUG: "
	head["panic"] = "Kernel panic - not syncing"
	head["BUG()"] = "kernel BUG at "
	head["WARN()"] = "-+\\[ cut here \\]-+"
	head["x86 trap"] = "(general protection|double) fault|(traps: )?PANIC: "
	head["lockdep"] = "INFO: trying to register non-static key"
	head["wait context"] = "\\[ BUG: "
	head["RCU stall"] = "(rcu: )?INFO: .*detected (expedited )?stall"
	head["RCU starved"] = "rcu: .* kthread (starved|timer wakeup didn't happen)"
	head["hung task"] = "INFO: task .* blocked.* for more than "
	head["irq"] = "irq [0-9]+: nobody cared"
	head["kmemleak"] = "kmemleak: [0-9]+ new suspected memory leaks"
	for (source in head)
		heads = heads (heads ? "|" : "") head[source]
	heads = "^(" heads ")"
}

# constant TEXT: without numbers, offsets, processes, the state of locks, and what
# the compiler adds
function constant(text) {
	sub(/,? (in process|CPU#|pfn:|\(Not tainted|\(Tainted).*/, "", text)
	gsub(/\+0x[0-9a-f]+\/0x[0-9a-f]+/, "", text)
	gsub(/\{[^}]*\}-\{[^}]*\}/, "", text)
	gsub(/\.(isra|constprop|part|cold)(\.[0-9]+)*/, "", text)
	gsub(/0x[0-9a-f]+|[0-9]+/, "N", text)
	return text
}

# names: what is printed once for each complaint
function flush_name() {
	if (complaint)
		print complaint
	complaint = ""
}

{
	text = $0
	sub(/^\[[^]]*\](\[[^]]*\])? /, "", text)	# time and caller
}

text ~ heads {
	found = 1
	left = CONTEXT
}

names && text ~ heads {
	flush_name()
	if (text !~ /\[ cut here \]/)
		complaint = constant(text)
	locks = 2	# lockdep's own, not all that are held
	next
}

names && complaint && left-- > 0 {
	if (locks && match(text, /\([^()]+(\([^()]*\))?[^()]*\)\{.*, at: .*/)) {
		complaint = complaint ", " constant(substr(text, RSTART))
		locks--
	} else if (text ~ /^RIP: [0-9a-f]+:[a-zA-Z_]/) {
		sub(/^RIP: [0-9a-f]+:/, "", text)
		complaint = complaint ", at " constant(text)
		left = 0
	}
}

names {
	next
}

left > 0 && shown < LIMIT {
	print
	left--
	if (++shown == LIMIT)
		print "(more in the log)"
}

text ~ /^---\[ end / {
	left = 0
}

END {
	flush_name()
	exit !found
}
