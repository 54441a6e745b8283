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

# all_pass KERNEL PROGRAM FS_AND_DEVICE [OPTION...]
all_pass() {
	local kernel=$1 program=$2 where=$3 line

	shift 3
	# shellcheck disable=SC2086 # to be split
	run "$TOP/ci/vm-run" -k "$BUILD/$kernel/bzImage" -c 2 --disk 1024 \
		--append "brd.rd_size=65536 check_pages=1" --add "$BUILD/selftests/$program" --add "$TOP/ci" -- \
		/ci/guest.d/on-fs $where "/$program" "$@"
	ok "$kernel: $program passes, $where" is "$status" 0
	ok "$kernel: $program comes to its end, $where" matches "$out" "1..$(results | wc -l)"
	while read -r line; do
		ok "$kernel: ${line##* }, $where" passed "$line"
	done < <(results)
}

all_pass patched reclaim_folios ext4
# Without buffers, a folio can be freed under writeback, which takes a while on a disk.
all_pass patched reclaim_folios "xfs data" -r reclaim_folios.file_written_back -r reclaim_folios.mixed
all_pass patched reclaim_counts ext4
all_pass base reclaim_counts ext4
done_testing
