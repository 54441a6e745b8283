#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# All kinds of folios, in the guest: what is written to them survives reclaim on
# the patched kernel, and counts add up there as on base. No selftest may be
# skipped.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

"$TOP/ci/make/selftests"

results() { grep -E '^(not )?ok [0-9]+ ' <<<"$out"; }

# passed LINE: a result without a SKIP.
passed() { [[ $1 =~ ^ok\ [0-9]+\ [a-z0-9_.]+$ ]]; }

# all_pass KERNEL UNIT [TEST...]
all_pass() {
	local kernel=$1 program=${2%@*} where line

	case $2 in
	*@*) where="${2#*@} data" ;;
	*) where=ext4 ;;
	esac
	run "$TOP/ci/unit" -k "$kernel" "${@:2}"
	ok "$kernel: $program passes, $where" is "$status" 0
	ok "$kernel: $program comes to its end, $where" matches "$out" "1..$(results | wc -l)"
	while read -r line; do
		ok "$kernel: ${line##* }, $where" passed "$line"
	done < <(results)
}

all_pass patched reclaim_folios
# Without buffers, a folio can be freed under writeback, which takes a while on a disk.
all_pass patched reclaim_folios@xfs reclaim_folios.{file_written_back,mixed}
all_pass patched reclaim_counts
all_pass base reclaim_counts
done_testing
