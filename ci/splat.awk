# SPDX-License-Identifier: GPL-2.0-only
#
# Find what a kernel complains about in its console output: print it with the
# lines that explain it, and exit with 0, or with 1 when there is nothing.
#	awk -f ci/splat.awk CONSOLE_LOG

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
	head["RCU stall"] = "(rcu: )?INFO: .*detected (expedited )?stall"
	head["RCU starved"] = "rcu: .* kthread (starved|timer wakeup didn't happen)"
	head["hung task"] = "INFO: task .* blocked.* for more than "
	head["irq"] = "irq [0-9]+: nobody cared"
	head["kmemleak"] = "kmemleak: [0-9]+ new suspected memory leaks"
	for (source in head)
		heads = heads (heads ? "|" : "") head[source]
	heads = "^(" heads ")"
}

{
	text = $0
	sub(/^\[[^]]*\](\[[^]]*\])? /, "", text)	# time and caller
}

text ~ heads {
	found = 1
	left = CONTEXT
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

END { exit !found }
