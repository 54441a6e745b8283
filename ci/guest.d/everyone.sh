# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What soak and fuzz share: reclaim from every process, beside what runs in random order.
# To be sourced.

RECLAIM=/sys/fs/cgroup/memory.reclaim

# reclaim_everyone SIZE: memory of both kinds, then anonymous memory; none where there is
# no such file, as while cgroup v1 has the controller.
reclaim_everyone() {
	local request

	[[ ${max_swappiness:-} || ! -e $RECLAIM ]] || {
		max_swappiness=max
		echo "0 swappiness=max" 2>/dev/null >$RECLAIM || max_swappiness=200	# before "max" that was it
	}
	for request in "$1" "$1 swappiness=${max_swappiness:-}"; do
		[[ ! -e $RECLAIM ]] || echo "$request" 2>/dev/null >$RECLAIM || true
	done
}

# shuffle WORD...: sets shuffled. Not in a subshell: that has other random numbers.
shuffle() {
	local i j word

	shuffled=("$@")
	for ((i = $# - 1; i > 0; i--)); do
		j=$((RANDOM % (i + 1)))
		word=${shuffled[i]}
		shuffled[i]=${shuffled[j]}
		shuffled[j]=$word
	done
}
