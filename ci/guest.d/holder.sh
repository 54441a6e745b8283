# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# A load that holds still, for flushes-per-pass, pass-length, reclaim-in and soak. To be
# sourced.

# hold_by COMMAND...: a load in the background that prints "ready" when its memory is
# there, and waits for a line then. Sets holder_pid. Ends by let_go, with its status.
# Status 1 if it says anything else.
hold_by() {
	local line=''

	coproc holder { "$@"; }
	# bash forgets both when the load ends by itself
	holder_pid=$!
	exec {holder_in}>&"${holder[1]}"
	read -r line <&"${holder[0]}" || :
	[[ $line == ready ]] || { echo "$1 says '$line', not 'ready'" >&2; return 1; }
}

let_go() {
	echo >&"$holder_in"
	exec {holder_in}>&-
	wait "$holder_pid"
}
