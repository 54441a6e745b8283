#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Figures that are quoted are those of results/, and of the code as it is or visibly of
# an earlier series; ci/state and ci/evidence notice what they must.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

cd "$TOP"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# A copy of what it reads, to be spoiled, of the series of the default base.
copy() {
	rm -rf "$tmp/tree"
	mkdir -p "$tmp/tree"
	cp -r README.md ci bench configs patches results selftests series "$tmp/tree"
	export BUILD=$tmp/build
	unset SERIES BASE CONFIGS ARCH
}

state() { "$tmp/tree/ci/state" | sed -n "s/^$1=//p"; }

# renewed NAME...: these runs are of the series as it is.
renewed() {
	local name

	for name; do
		echo "series=$(state series)" >>"$tmp/tree/results/$name/env"
	done
}

# spoil FILE SED: in the copy.
spoil() { sed -i -E "$2" "$tmp/tree/$1"; }

# notices NAME PATTERN: what --check says of the copy.
notices() {
	run "$tmp/tree/ci/evidence" --check
	ok "noticed: $1" matches "$status $out" "^1 .*$2"
}

test_state() {
	local patch was fix selftest longer

	copy
	was=$(state series) fix=$(state fix)
	patch=$(cd "$tmp/tree" && ls patches/0004-*.patch)
	selftest=$(cd "$tmp/tree" && ls patches/0007-*.patch)
	spoil "$patch" 's/^Reclaim flushes the TLB/Reclaim empties the TLB/'
	ok "a changelog is no other series" is "$(state series)" "$was"
	spoil "$selftest" 's/^\+#include <stdio.h>$/+#include <time.h>/'
	ok "a selftest is no other series" is "$(state series)" "$was"
	spoil "$patch" '0,/^\+\t/s//+\tcpu_relax();/'
	ok "a line of code is" test "$(state series)" != "$was"
	ok "and not another fix" is "$(state fix)" "$fix"
	was=$(state series) longer=$(state longer-passes)
	patch=$(cd "$tmp/tree" && ls patches/longer-passes/0001-*.patch)
	spoil "$patch" '0,/^\+\t/s//+\tcpu_relax();/'
	ok "a follow-up series has a state of its own" test "$(state longer-passes)" != "$longer"
	ok "and is none of the series" is "$(state series)" "$was"
}

test_check() {
	local patch figure

	run ci/evidence --check
	ok "README, letters and changelogs quote no stale or invented figure" is "$status$out$err" 0
	ok "the README's measurements are those of results/" not grep -q ^README <<<"$out"
	run diff <(ci/evidence --readme) results/README.md
	ok "results/README.md is what ci/evidence prints" is "$status" 0
	run grep -cE '^\| madvise_tlb_ipis_per_page ' README.md
	ok "the README shows a measurement" is "$out" 1

	copy
	patch=$(cd "$tmp/tree" && ls patches/0005-*.patch)
	figure=$(sed -n 's/^this patch, and \([0-9.]*\) times .* without\..*/\1/p' "$patch")
	spoil "$patch" '0,/^\+\t/s//+\tcpu_relax();/'
	notices "a line of patch 5" "README.md:[0-9]*: results/pageout is of other code"
	ok "in the cover letter" matches "$out" "patches/cover-letter:[0-9]*: results/waiters is of other code"
	ok "in a changelog" matches "$out" "$patch:[0-9]*: not in any run that is not stale: .*${figure:-no figure}"
	ok "not in the fix" not matches "$out" "patches/fix"
	copy
	spoil README.md 's/^(\| madvise_time_per_page .*) [0-9.]+ \|/\1 4711 |/'
	notices "a figure of the README that no run has" "README.md:[0-9]*: not in results/pageout: 4711"
	copy
	spoil "$patch" "s/$figure times/98.7613 times/"
	notices "one of a changelog" "not in any run that is not stale: 98.7613"
	copy
	echo series=0 >>"$tmp/tree/results/all-scenarios/env"
	notices "an old run that is not marked" "patches/cover-letter:[0-9]*: results/all-scenarios is of other code"
	renewed all-scenarios
	run "$tmp/tree/ci/evidence" --check
	ok "once renewed it needs no mark" not matches "$out" "patches/cover-letter"
	echo series=0 >>"$tmp/tree/results/all-scenarios/env"
	spoil patches/cover-letter 's/^Other workloads,/& with an earlier series,/;s/results.all-scenarios,/& of an earlier series,/'
	run "$tmp/tree/ci/evidence" --check
	ok "a mark is enough" not matches "$out" "patches/cover-letter"
	rm -r "$tmp/tree/results/waiters"
	notices "a run that is gone" "there is no results/waiters"
}

# A run whose command takes no time, which fails the first time it is run.
test_renew() {
	local tree=$tmp/tree

	copy
	mkdir "$tree/results/quick"
	cat >"$tree/results/quick/about" <<-'EOF_ABOUT'
	question: Is it quick?
	command: echo first >>"$NEW/log"
	command: test -e build-is-there && echo second >>"$NEW/log"
	minutes: 1
	EOF_ABOUT
	echo "series=old" >"$tree/results/quick/env"
	run "$tree/ci/evidence"
	ok "what is stale is said" matches "$out" "results/quick: Is it quick"
	run "$tree/ci/evidence" --renew quick
	ok "a command that fails" matches "$status $err" "^1 .*not renewed: quick"
	touch "$tree/build-is-there"
	run "$tree/ci/evidence" --renew quick
	ok "goes on where it was" is "$status $(paste -sd ' ' "$tree/results/quick/log")" "0 first second"
	ok "is of the series as it is" matches "$(tail -n 20 "$tree/results/quick/env")" "series=$(state series)"
	run "$tree/ci/evidence"
	ok "is stale no more" not matches "$out" "results/quick"
}

test_input() {
	local arguments expected

	while IFS='|' read -r arguments expected; do
		# shellcheck disable=SC2086 # words of the table
		run ci/evidence $arguments
		ok "ci/evidence $arguments: status" is "$status" 1
		ok "ci/evidence $arguments: message" matches "$err" "$expected"
		ok "ci/evidence $arguments: one line" one_line "$err"
	done <<-'EOF_CASES'
	--all|unknown argument --all
	--check now|unknown argument --check now
	--renew nothing|no run 'nothing': results/ has
	--renew khugepaged|results/khugepaged has no command
	EOF_CASES
}

test_check
test_state
test_renew
test_input
done_testing
