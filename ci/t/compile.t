#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What gcc (W=1) and sparse say of the objects that the series changes, on base
# and on patched: the series must add nothing.
#
# Debian 12's sparse does not know __typeof_unqual__, and the kernel refuses it
# for that; __typeof__ does for what is looked for here. It also gives up where
# a trace event's format string is too long for it, so tracing is off.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

need git make gcc sparse
src=$BUILD/src
obj=$BUILD/obj-w1
base=$(cat "$BUILD/commits/base")
patched=$(cat "$BUILD/commits/patched")
mapfile -t objects < <(git -C "$src" diff --name-only "$base" "$patched" -- 'mm/*.c' |
	sed 's/c$/o/')

kbuild() { make -s -C "$src" O="$obj" CHECK='sparse -D__typeof_unqual__=__typeof__' "$@"; }

# says COMMIT: the warnings of the objects at COMMIT, without line numbers.
says() {
	git -C "$src" checkout -q --detach "$1"
	kbuild W=1 C=2 "${objects[@]}" 2>&1 | sed -E 's/:[0-9]+(:[0-9]+)?:/:/' | sort
	[[ ${PIPESTATUS[0]} -eq 0 ]]
}

mkdir -p "$obj"
cp "$BUILD/obj/.config" "$obj/.config"
"$src/scripts/config" --file "$obj/.config" -d FTRACE
kbuild olddefconfig prepare >"$obj/log" 2>&1 || die "cannot prepare $obj: see $obj/log"
trap 'git -C "$src" checkout -q --detach "$patched"' EXIT

run says "$base"
before=$out
ok "base compiles: ${objects[*]}" is "$status" 0
ok "sparse sees into base" matches "$before" "warning: symbol '.*' was not declared"
run says "$patched"
ok "patched compiles: ${objects[*]}" is "$status" 0
run diff <(echo "$before") <(echo "$out")
ok "gcc W=1 and sparse say nothing new" is "$out" ""

# Every patch on its own, too: the tree is bisectable.
mapfile -t commits < <(git -C "$src" rev-list --reverse "$base..$patched")
for commit in "${commits[@]}"; do
	run says "$commit"
	run diff <(echo "$before") <(echo "$out")
	ok "nothing new from $(git -C "$src" log -1 --format=%s "$commit")" is "$out" ""
done
done_testing
