#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What can be told without booting anything: the scripts, the patches and how
# they apply.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

need git quilt shellcheck perl
follow_up=$(variant_patch longer-passes)
"$TOP/ci/make/source" apply ${follow_up:+"$follow_up"}
cd "$TOP"
dir=$(patches_dir)
mapfile -t patches < <(series_patches | sed "s,^$dir/,,")
base=$(cat "$BUILD/commits/base")
patched=$(cat "$BUILD/commits/patched")
tmp=$(mktemp -d "$BUILD/static.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

tracked() { git ls-files --cached --others --exclude-standard; }

scripts() {
	tracked | while read -r file; do
		case $(head -c 64 "$file" 2>/dev/null | head -n 1) in
		'#!'*bash | '#!/bin/sh'*) echo "$file" ;;
		esac
	done
	ls ci/*.sh ci/*/*.sh bench/*.sh ci/guest.d/situations/* bench/scenarios/*
}

# Files of which each line counts, as data or as mail, carry no licence line.
without_licence() {
	tracked | grep -v -e '^results/' -e '^patches/' -e '^bench/variants/' -e '^selftests/mutants/' -e '^\.gitignore$' -e '^\.shellcheckrc$' |
		while read -r file; do
			head -n 5 "$file" | grep -q SPDX-License-Identifier || echo "$file"
		done
}

# The patched files as quilt leaves them must be those of git am.
quilt_push() {
	local files file

	mapfile -t files < <(git -C "$BUILD/src" diff --name-only "$base" "$patched")
	mkdir "$tmp/quilt"
	for file in "${files[@]}"; do
		git -C "$BUILD/src" cat-file -e "$base:$file" 2>/dev/null || continue
		mkdir -p "$tmp/quilt/$(dirname "$file")"
		git -C "$BUILD/src" show "$base:$file" >"$tmp/quilt/$file"
	done
	(cd "$tmp/quilt" && QUILT_PATCHES=$dir QUILT_SERIES=$SERIES \
		quilt --quiltrc - push -aq) || return 1
	for file in "${files[@]}"; do
		git -C "$BUILD/src" show "$patched:$file" |
			cmp - "$tmp/quilt/$file" || return 1
	done
}

# selftests/ is what the series adds to the kernel tree; the ksft_*.sh only where the
# tree has others.
same_selftests() {
	local file files=(selftests/*.[ch])

	# for BASE: stable trees take the fix without its selftest
	[[ $SERIES -ef series ]] || mapfile -t files < <(printf '%s\n' "${files[@]}" | grep -v reclaim_file)
	! git -C "$BUILD/src" ls-tree --name-only "$base:tools/testing/selftests/mm" |
		grep -q '^ksft_' || files+=(selftests/*.sh)
	for file in "${files[@]}"; do
		git -C "$BUILD/src" show "$patched:tools/testing/$(dirname "$file")/mm/$(basename "$file")" |
			cmp - "$file" || return 1
	done
}

# do_not_apply PATCH...: those that, as they are for BASE, are not for the patched
# kernel as it is.
do_not_apply() {
	local patch on

	for patch; do
		on=$(variant_on "$(basename "$patch" .patch)")
		[[ $on ]] || continue
		patch=$(variant_patch "$(basename "$patch" .patch)")
		[[ -d $tmp/$on ]] || {
			mkdir "$tmp/$on"
			git -C "$BUILD/src" archive "$(cat "$BUILD/commits/$on")" mm | tar -x -C "$tmp/$on"
		}
		(cd "$tmp/$on" && GIT_CEILING_DIRECTORIES=$BUILD git apply --check "$patch") || echo "$patch"
	done
}

# killers: PROGRAM TEST, each that a mutant names.
killers() {
	local patch program tests test

	for patch in selftests/mutants/*.patch; do
		read -r program tests <<<"$(variant_trailer "$(basename "$patch" .patch)" Killed-by)"
		for test in $tests; do
			echo "$program $test"
		done
	done
}

# no_such_test PROGRAM TEST
no_such_test() {
	local fixture=${2%%.*} name=${2##*.}

	case $1 in
	reclaim-in) [[ ! -f ci/guest.d/situations/$2 ]] ;;
	flushes-per-pass | pass-length) ! grep -q "^#	$2	" "ci/guest.d/$1" ;;
	*) ! grep -qE "^TEST_F(_TIMEOUT)?\($fixture, ${name}[,)]" "selftests/extra/${1%@*}.c" ;;
	esac
}

# unknown_killers: tests that mutants name, but nobody has.
unknown_killers() {
	local program test

	killers | while read -r program test; do
		! no_such_test "$program" "$test" || echo "$program $test"
	done
}

mapfile -t files < <(scripts)
run shellcheck "${files[@]}"
ok "shellcheck: ${#files[@]} scripts" is "$status" 0
run without_licence
ok "a licence line in every file" is "$out" ""
folders() { printf '%s\n' "${patches[@]}" | xargs -n 1 dirname | uniq; }
run diff <(printf '%s\n' "${patches[@]}") <(cd "$dir" && folders | while read -r name; do
	printf '%s\n' "$name"/*.patch | sed 's,^\./,,'
done)
ok "series names every patch, in order" is "$status" 0
fix=$(dirname "${patches[0]}")
run diff <(grep "^$fix/" "$SERIES") <(grep -v '^#' "$dir/$fix/series")
ok "the series begins with that of the fix" is "$status" 0
run quilt_push
ok "quilt push -a gives what git am gives" is "$status" 0
run same_selftests
ok "the series adds selftests/ as it is" is "$status" 0
run do_not_apply bench/variants/*.patch
ok "every variant applies to the series" is "$out$err" ""
run grep -L '^For ' bench/variants/*.patch
ok "every variant says what it is for" is "$out" ""
run do_not_apply selftests/mutants/*.patch
ok "every mutant applies to the series" is "$out$err" ""
run grep -LE '^(Killed-by: [^ ]+ [^ ]|Equivalent: .)' selftests/mutants/{,*/}*.patch
ok "every mutant says what kills it, or why nothing can" is "$out" ""
run unknown_killers
ok "the tests that kill mutants exist" is "$out$err" ""
run diff <(ci/coverage) ci/coverage.md
ok "ci/coverage.md is what ci/coverage prints" is "$status" 0
run ci/series/cover-letter
ok "the cover letter's measurements are all in results/" is "$status$err" 0
[[ ! $follow_up ]] || mapfile -t -O "${#patches[@]}" patches < <(variant_patches "$follow_up" | sed "s,^$dir/,,")
for patch in "${patches[@]}"; do
	run ci/series/checkpatch "$BUILD/src" "$dir/$patch"
	ok "checkpatch --strict: $patch" is "$status$out$err" 0
	run grep -cE '^(From: Reclaim TLB Batching|Signed-off-by: Reclaim TLB Batching)' "$dir/$patch"
	ok "signed off by its author: $patch" is "$out" 2
done
done_testing
