# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What flushes-per-pass and pass-length share: events that are traced and counted while
# memory of a cgroup is reclaimed. To be sourced.

set -euo pipefail

. "${0%/*}/holder.sh"

tracing=/sys/kernel/tracing
cgroup=''	# of a mode

fail() { echo "${0##*/}: $*" >&2; return 1; }

# trace SYSTEM EVENT [COMM]: that event; only in processes of a name like that.
trace() {
	[[ ! ${3:-} ]] || echo "comm ~ \"$3\"" >"$tracing/events/$1/$2/filter"
	echo 1 >"$tracing/events/$1/$2/enable"
}

# in_cgroup COMMAND...
in_cgroup() { (echo "$BASHPID" >"$cgroup/cgroup.procs" && exec "$@"); }

# What the awk scripts begin with: value(NAME) is that of the field NAME=value of a line.
# shellcheck disable=SC2016,SC2034 # awk's; used by those that source this
values='
	function value(name, i) {
		for (i = 1; i <= NF; i++)
			if (index($i, name "=") == 1)
				return substr($i, length(name) + 2)
	}'

# all_modes [MODE...]: count each, or all that the head of the script names; prints
# "ok MODE" or "not ok MODE" of each, and ends with status 1 if one was not.
all_modes() {
	local mode status=0

	# shellcheck disable=SC2046 # words
	[[ $# -gt 0 ]] || set -- $(sed -n 's/^#	\([a-z][a-z-]*\)	.*/\1/p' "$0")
	for mode; do
		# One for each: memory may keep a removed cgroup, and DAMON of Linux 6.12
		# finds that by the name.
		cgroup=/sys/fs/cgroup/${0##*/}-$mode
		if count "$mode"; then
			echo "ok $mode"
		else
			status=1
			echo "not ok $mode"
		fi
		echo 0 >$tracing/events/enable
		[[ ! -d $cgroup ]] || rmdir "$cgroup"
	done
	return $status
}
