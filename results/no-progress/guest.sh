#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# guest.sh: burst with 16 threads and 128 MiB in a cgroup of 64 MiB, with the multi-gen
# LRU. Prints the calls of memcg reclaim, those that reclaimed nothing, and the most of
# these in a row by one task. In a guest, from the top directory:
#
#	gcc -O2 -static -pthread -o /tmp/burst results/no-progress/burst.c
#	ci/vm-run -k build/base/bzImage -c 2 -m 768 --add /tmp/burst \
#		--add results/no-progress/guest.sh -- bash /guest.sh

set -euo pipefail
tracing=/sys/kernel/tracing
cgroup=/sys/fs/cgroup/burst

echo y >/sys/kernel/mm/lru_gen/enabled
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir "$cgroup"
echo 64M >"$cgroup/memory.max"
echo 60000 >$tracing/buffer_size_kb
echo 1 >$tracing/events/vmscan/mm_vmscan_memcg_reclaim_end/enable
status=0
bash -c 'echo $$ >"$0/cgroup.procs" && exec /burst 16 128' "$cgroup" || status=$?
awk '/mm_vmscan_memcg_reclaim_end/ {
		calls++
		row[$1] = / nr_reclaimed=0( |$)/ ? row[$1] + 1 : 0
		nothing += row[$1] > 0
		if (row[$1] > most)
			most = row[$1]
	}
	/age: late/ { late++ }
	END { print "calls", calls, "nothing", nothing + 0, "in a row", most + 0, "late", late + 0 }' $tracing/trace
grep -h '^oom_kill ' "$cgroup/memory.events"
echo "burst ended with status $status"
