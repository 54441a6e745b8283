#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# ci/series/refresh: commits become patches, and nothing else changes. It works on
# copies of the patches and the series file, and in a tree of its own.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

need git
tmp=$(mktemp -d "$BUILD/refresh.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
repo=$(git -C "$BUILD/src" rev-parse --path-format=absolute --git-common-dir)
base=$(cat "$BUILD/commits/base")
patched=$(cat "$BUILD/commits/patched")
tree=$tmp/linux
copy=$tmp/copy
mapfile -t patches < <(series_patches | sed "s,^$(patches_dir)/,,")
last=$(basename "${patches[-1]}")
folder=${patches[-1]%"$last"}	# of all but the fix, in patches/: "" or with a / behind it
total=$(printf '%s\n' "${patches[@]}" | grep -c "^${folder}[^/]*$")

# What a user may have set must not show in the patches.
export HOME=$tmp
cat >"$HOME/.gitconfig" <<'END'
[user]
	name = user
	email = user@localhost.localdomain
[diff]
	noprefix = true
	algorithm = patience
	context = 7
[format]
	signature = mine
	thread = true
[core]
	abbrev = 40
END

times() { find "$copy" -printf '%p %T@ %i\n' | sort; }
refresh() { SERIES=$copy/series "$TOP/ci/series/refresh" "${@:-$tree}"; }
git_tree() { git -C "$tree" "$@"; }

# refused PATTERN: the last run failed with one line, which matches PATTERN, and
# changed nothing.
refused() {
	is "$status" 1 && one_line "$err" && matches "$err" "$1" && unchanged
}
unchanged() { is "$(diff -r "$tmp/first" "$copy")" ""; }

# applies: the refreshed series makes the tree that it was made from.
applies() {
	local refreshed

	mapfile -t refreshed < <(SERIES=$copy/series series_patches)
	git -C "$tmp/am" reset -q --hard "$base"
	git -C "$tmp/am" am -q "${refreshed[@]}" >"$tmp/am.log" 2>&1 || return
	is "$(git -C "$tmp/am" rev-parse "HEAD^{tree}")" "$(git_tree rev-parse "HEAD^{tree}")"
}

# make_tree DIR COMMIT: a clone with nothing in it but mm/
make_tree() {
	borrow "$repo" "$1"
	git -C "$1" sparse-checkout set --no-cone /mm/
	git -C "$1" reset -q --hard "$2"
}

mkdir -p "$copy/patches"
(cd "$(patches_dir)" && cp --parents "${patches[@]}" "$(dirname "${patches[0]}")/series" "$copy/patches")
cp "$SERIES" "$copy/series"
echo letter >"$copy/patches/cover-letter"
cp -a "$copy" "$tmp/first"
make_tree "$tree" "$patched"
make_tree "$tmp/am" "$base"

before=$(times)
run refresh
ok "no commit has changed: no patch has" is "$status$out" "0no patch has changed"
ok "no commit has changed: no byte has" unchanged
ok "no commit has changed: no file is touched" \
	is "$(times)" "$before"

git_tree commit -q --amend -m "$(git_tree log -1 --format=%B)" -m "One more line."
run refresh
ok "a changelog: its patch changes" is "$status$out" "0changed: patches/$folder$last"
ok "a changelog: nothing else does" \
	is "$(diff -rq "$tmp/first" "$copy" | wc -l)" 1
ok "a changelog: one line does" grep -qx "One more line." "$copy/patches/$folder$last"

git_tree reset -q --hard "$patched"
echo "/* the end */" >>"$tree/mm/vmscan.c"
git_tree commit -q -a -m "mm: one more patch"
run refresh
new=$(printf '%04d-mm-one-more-patch.patch' $((total + 1)))
ok "a new commit: a new patch" matches "$out" "new: patches/$folder$new"
ok "a new commit: the series has it last" is "$(tail -n 1 "$copy/series")" "$folder$new"
ok "a new commit: the series is else as it was" \
	is "$(head -n -1 "$copy/series")" "$(<"$SERIES")"
ok "a new commit: all are numbered anew" \
	is "$(grep -c "^Subject: \[PATCH [0-9]*/$((total + 1))\]" "$copy/patches/$folder"*.patch | grep -c ':1$')" \
	$((total + 1))
ok "a new commit: git am makes the tree again" applies

git_tree reset -q --hard "$patched"
run refresh
ok "a commit less: its patch goes" matches "$out" "gone: patches/$folder$new"
ok "a commit less: all is as it was" unchanged

git_tree commit -q --amend -m "mm: another name"
run refresh
ok "a subject: the file's name follows" \
	is "$(tail -n 1 "$copy/series")" "$folder${last%%-*}-mm-another-name.patch"
ok "a subject: the old file is gone" not test -e "$copy/patches/$folder$last"
ok "a subject: the cover letter stays" grep -qx letter "$copy/patches/cover-letter"
git_tree reset -q --hard "$patched"
run refresh

echo "/* changed */" >>"$tree/mm/vmscan.c"
run refresh
ok "a change that is not committed" refused "$tree has uncommitted changes"
git_tree checkout -q mm/vmscan.c
git_tree commit -q --allow-empty -m "nothing"
run refresh
ok "an empty commit" refused "a commit that changes nothing"
git_tree reset -q --hard "$base"
run refresh
ok "no commit" refused "no commit after the base"
git_tree checkout -q --orphan other
git_tree commit -q -m "another history"
run refresh
ok "another history" refused "not on the base of the series"
git_tree checkout -q --detach "$patched"
git_tree branch -q side "$base"
git_tree merge -q -s ours --no-ff -m "a merge" other --allow-unrelated-histories >/dev/null
run refresh
ok "a merge" refused "has merges"
git_tree checkout -q --detach "$patched"
GIT_SEQUENCE_EDITOR="sed -i '1s/^pick/edit/'" git_tree rebase -q -i "$base" >/dev/null 2>&1
run refresh
ok "a rebase that has stopped" refused "in the middle of something .rebase-merge."
git_tree rebase --abort
run refresh "$tmp/none"
ok "a directory that is no work tree" refused "$tmp/none is no git work tree"
run refresh
ok "after all that: no patch has changed" is "$status$out" "0no patch has changed"
done_testing
