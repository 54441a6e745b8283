#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# All kinds of folios, in the guest: what is written to them survives reclaim on
# the patched kernel, and counts add up there as on base. No selftest may be
# skipped.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

"$TOP/ci/selftests"

results() { grep -E '^(not )?ok [0-9]+ ' <<<"$out"; }

# passed LINE: a result without a SKIP.
passed() { [[ $1 =~ ^ok\ [0-9]+\ [a-z0-9_.]+$ ]]; }

# all_pass KERNEL PROGRAM
all_pass() {
	local line

	run "$TOP/ci/vm-run" -k "$BUILD/$1/bzImage" -c 2 --append brd.rd_size=65536 \
		--add "$BUILD/selftests/$2" --add "$TOP/ci" -- /ci/guest.d/on-fs ext4 "/$2"
	ok "$1: $2 passes" is "$status" 0
	ok "$1: $2 comes to its end" matches "$out" "1..$(results | wc -l)"
	while read -r line; do
		ok "$1: ${line##* }" passed "$line"
	done < <(results)
}

all_pass patched reclaim_folios
all_pass patched reclaim_counts
all_pass base reclaim_counts
done_testing
