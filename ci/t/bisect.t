#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Every patch of the series that changes the kernel, on its own: it builds, boots, and
# passes the selftests that it has to pass from there on. Which those are:
#
#	no write is lost		after each patch, for the first is the fix
#	flushes are batched		after the patch that batches them

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

"$TOP/ci/make/source"
"$TOP/ci/make/selftests"
mapfile -t kernels < <(cd "$BUILD/commits" && printf '%s\n' patch-* | sort -V)

# passed NAME: the last run has the selftest NAME as passed, no SKIP.
passed() { grep -qE "^ok [0-9]+ $1\$" <<<"$out"; }

title() { git -C "$BUILD/src" log -1 --format=%s "$(cat "$BUILD/commits/$1")"; }

# only_tests NAME: it is as the one before, but for selftests.
only_tests() {
	local commit

	commit=$(cat "$BUILD/commits/$1")
	git -C "$BUILD/src" diff --quiet "$commit~" "$commit" -- . ':!tools/testing'
}

flushes=reclaim_tlb.anon_flushes_are_batched
survive=(reclaim_race.madvise.{file_writes_survive,moved_page_is_not_written})
batched=
for kernel in "${kernels[@]}"; do
	title=$(title "$kernel")
	if only_tests "$kernel"; then
		ok "$kernel has a title for tests: $title" matches "$title" "^selftests/"
		continue
	fi
	run "$TOP/ci/make/kernel" "$kernel"
	ok "$kernel builds: $title" is "$status" 0
	[[ $status -eq 0 ]] || continue
	run "$TOP/ci/unit" -k "$kernel" reclaim_tlb "$flushes" "${survive[@]}"
	for name in "${survive[@]}"; do
		ok "$kernel: $name" passed "$name"
	done
	[[ $title != *"flush the TLB once for many dirty folios" ]] || batched=1
	[[ ! $batched ]] ||
		ok "$kernel: flushes are batched" passed "$flushes"
done
ok "one of the patches batches the flushes" is "$batched" 1
done_testing
