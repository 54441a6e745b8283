#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# ci/make/source and ci/make/kernel on wrong input, and on a tree of the user's own.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

need git
tmp=$(mktemp -d "$BUILD/source.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
src=$BUILD/src
base=$(cat "$BUILD/commits/base")

# source_at [VARIABLE=VALUE...]: ci/make/source on the small tree, in a BUILD of its own
source_at() { env KERNEL_TREE="$tmp/tree" BUILD="$tmp/build" "$@" "$TOP/ci/make/source"; }

# A user's tree: the files that the series changes, and nothing else; with a
# change in the index, one in the work tree, and a hook that must not run.
make_tree() {
	local file

	git init -q -b main "$tmp/tree"
	git -C "$src" diff --name-only "$base" "$(cat "$BUILD/commits/patched")" |
		while read -r file; do
			git -C "$src" cat-file -e "$base:$file" 2>/dev/null || continue
			mkdir -p "$tmp/tree/$(dirname "$file")"
			git -C "$src" show "$base:$file" >"$tmp/tree/$file"
		done
	cd "$tmp/tree"
	git config user.name user
	git config user.email user@localhost.localdomain
	git add .
	git commit -q -m base
	printf '#!/bin/sh\ntouch %s\n' "$tmp/hook-ran" >.git/hooks/post-checkout
	chmod +x .git/hooks/post-checkout
	echo staged >staged
	git add staged
	echo changed >>mm/vmscan.c
	cd "$TOP"
}

# What the user would notice: branches, tags, index, files.
state() {
	git -C "$tmp/tree" for-each-ref
	git -C "$tmp/tree" rev-parse HEAD
	git -C "$tmp/tree" status --porcelain
	git -C "$tmp/tree" diff HEAD | sha256sum
}

# refused PATTERN: the last run failed with one line, which matches PATTERN.
refused() { is "$status" 1 && one_line "$err" && matches "$err" "$1"; }

make_tree
before=$(state)
run source_at
ok "KERNEL_TREE: the series applies to it" is "$status" 0
for file in vmscan.c rmap.c internal.h; do
	ok "KERNEL_TREE: mm/$file is the patched one" \
		cmp -s "$tmp/build/src/mm/$file" \
		<(git -C "$src" show "$(cat "$BUILD/commits/patched"):mm/$file")
done
ok "KERNEL_TREE: branches, index and files are as they were" is "$(state)" "$before"
ok "KERNEL_TREE: no hook of the tree runs" not test -e "$tmp/hook-ran"

stamp=$(stat -c %Y.%y "$tmp/build/src/mm/vmscan.c")
run source_at
ok "a second time: nothing happens" is "$status$err" 0
ok "a second time: no file is touched" \
	is "$(stat -c %Y.%y "$tmp/build/src/mm/vmscan.c")" "$stamp"

# a build holds this, and takes what is in BUILD/src
flock "$tmp/build/kernel.lock" sh -c "until [ -e '$tmp/built' ]; do sleep 0.1; done" &
until_true 10 not flock -n "$tmp/build/kernel.lock" true
git -C "$tmp/build/src" checkout -q --detach HEAD^
before_it=$(git -C "$tmp/build/src" rev-parse HEAD)
source_at BUILD="$tmp/build" 2>"$tmp/waiting" &
ok "while a kernel is built: it waits, and says so" \
	until_true 10 grep -q "waiting for another build in $tmp/build" "$tmp/waiting"
ok "while a kernel is built: the work tree is as it was" \
	is "$(git -C "$tmp/build/src" rev-parse HEAD)" "$before_it"
run source_at BUILD_LOCKED="$tmp/build"
ok "what the build itself starts does not wait" is "$status$err" 0
touch "$tmp/built"
ok "then it goes on" wait $!

git clone -q --no-local "$tmp/tree" "$tmp/other"
run source_at KERNEL_TREE="$tmp/other"
ok "KERNEL_TREE: another one with the same base" is "$status" 0
run source_at
ok "KERNEL_TREE: back to the first" is "$status" 0

run source_at KERNEL_TREE=/nonexistent
ok "KERNEL_TREE that is no repository" refused "/nonexistent is no git repository"
run source_at KERNEL_TREE="$TOP"
ok "KERNEL_TREE that is not Linux" refused "no Linux source at HEAD"
run source_at KERNEL_BASE=no-such-ref
ok "KERNEL_BASE that is no commit" refused no-such-ref

commits=$(cat "$tmp/build/commits/patched")
sed -i 's/nr_reclaimed = 0, nr_demoted = 0/nr_taken = 0/' "$tmp/tree/mm/vmscan.c"
git -C "$tmp/tree" commit -q -a -m "a conflict"
run source_at
ok "a patch that does not apply: which and where, in one line" \
	refused 'patches/.*0001-.*\.patch does not apply at mm/vmscan.c:[0-9]+'
ok "a patch that does not apply: the last good outcome stays" \
	is "$(cat "$tmp/build/commits/patched")" "$commits"
ok "a patch that does not apply: no work tree is left" \
	is "$(git -C "$tmp/tree" worktree list | wc -l)" 2

run env BUILD="$tmp/build2" LINUX_SOURCE=linux-source-0.0 "$TOP/ci/make/source"
err=${err##*$'\n'}	# after the line that tells what it is doing
ok "no such source package: says the two ways out" \
	refused "has no linux-source-0.0: .*LINUX_SOURCE.*KERNEL_TREE"
ok "no such source package: nothing is left" not test -e "$tmp/build2/linux.git"

run env BASE=2.4 "$TOP/ci/make/kernel"
ok "no such base" refused "no base '2.4'"
run env ARCH=sparc "$TOP/ci/make/kernel"
ok "no such architecture" refused "no architecture 'sparc'"
run env ARCH=arm64 "$TOP/ci/check"
ok "the tests on another architecture: says what can be run" refused "check-arch"
run env ARCH=arm64 "$TOP/ci/make/livepatch"
ok "a livepatch for another architecture" refused "klp-build is for x86_64"
run env CONFIGS="guest no-such" "$TOP/ci/make/kernel"
ok "no such fragment" refused "no configs/no-such.config"
run "$TOP/ci/make/kernel" no-such-kernel
ok "no such kernel: names those that exist" refused "there are: base .*patched"
done_testing
