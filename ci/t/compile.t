#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What gcc (W=1) and sparse say of the objects that the series and its follow-ups change,
# after each patch and in several configurations: nothing that they do not say of the
# base kernel. Objects only: ci/t/bisect.t builds whole kernels.
#
# Debian 12's sparse does not know __typeof_unqual__, and the kernel refuses it
# for that; __typeof__ does for what is looked for here. It also gives up where
# a trace event's format string is too long for it, so tracing is off there.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"
. "$TOP/ci/make/kbuild.sh"

need git make gcc sparse
mapfile -t follow_ups < <(follow_ups)
apply_for "${follow_ups[@]}"
base=$(commit_of base)
patched=$(commit_of patched)

# in_order FROM NAME: the ids of the patches that the kernel NAME has more than FROM.
in_order() { git -C "$src" rev-list --reverse "$1..$(commit_of "$2")" -- mm include; }

mapfile -t changed < <(git -C "$src" diff --name-only "$base" "$patched" -- 'mm/*.c' |
	sed 's/c$/o/')
mapfile -t commits < <(in_order "$base" patched; for name in "${follow_ups[@]}"; do in_order "$patched" "$name"; done)
export CCACHE_BASEDIR=$BUILD CCACHE_NOHASHDIR=1

config=() kbuild=() objects=()

# objects_with SYMBOL: those that mm/Makefile has only with CONFIG_SYMBOL.
objects_with() {
	sed -n "s/^obj-\$(CONFIG_$1).*=//p" "$src/mm/Makefile" | tr -s '[:blank:]' '\n' | sed -n 's,..*,mm/&,p'
}

# is_off SYMBOL: not set in the configuration.
is_off() { ! grep -q "^CONFIG_$1=" "${kbuild[0]#O=}/.config"; }

# configuration NAME: sets objects, kbuild (arguments of make) and config
# (arguments of scripts/config, which change the kernels' configuration).
configuration() {
	local cc=gcc

	! command -v ccache >/dev/null || cc="ccache gcc"
	objects=("${changed[@]}")
	kbuild=(O="$BUILD/obj-w1" CC="$cc" W=1)
	case $1 in
	sparse)
		config=(-d FTRACE)
		kbuild+=(C=2 CHECK='sparse -D__typeof_unqual__=__typeof__') ;;
	no-swap)
		config=(-d SWAP) ;;
	no-memcg)
		config=(-d MEMCG) ;;
	no-thp)
		config=(-d TRANSPARENT_HUGEPAGE) ;;
	no-batched-flush)
		# user-mode Linux does not select ARCH_WANT_BATCHED_UNMAP_TLB_FLUSH
		config=(-d SMP)
		kbuild=(O="$BUILD/obj-um" CC="$cc" W=1 ARCH=um SUBARCH=x86_64) ;;
	esac
}

# make_in ARG...: make with what configuration() has set.
make_in() { make -s -C "$src" "${kbuild[@]}" "$@"; }

# prepare: the object directory, with the base kernel's source; drops the objects that
# the configuration has not.
prepare() {
	local obj=${kbuild[0]#O=} symbol

	git -C "$src" checkout -q --detach "$base"
	mkdir -p "$obj"
	cp "$BUILD/obj/.config" "$obj/.config"
	"$src/scripts/config" --file "$obj/.config" "${config[@]}"
	make_in olddefconfig prepare >"$obj/log" 2>&1 ||
		die "cannot prepare $obj: see $obj/log"
	for symbol in SWAP TRANSPARENT_HUGEPAGE; do
		! is_off "$symbol" ||
			mapfile -t objects < <(printf '%s\n' "${objects[@]}" | grep -vxFf <(objects_with "$symbol"))
	done
}

# says COMMIT: the warnings of the objects at COMMIT, without line numbers.
says() {
	git -C "$src" checkout -q --detach "$1"
	make_in "${objects[@]}" 2>&1 | sed -E 's/:[0-9]+(:[0-9]+)?:/:/' | sort
	[[ ${PIPESTATUS[0]} -eq 0 ]]
}

trap 'git -C "$src" checkout -q --detach "$patched"' EXIT

for name in sparse no-swap no-memcg no-thp no-batched-flush; do
	configuration "$name"
	prepare
	run says "$base"
	before=$out
	ok "$name: base compiles" is "$status" 0
	case $name in
	sparse)	ok "sparse sees into base" matches "$before" "warning: symbol '.*' was not declared" ;;
	no-batched-flush) ok "$name" is_off ARCH_WANT_BATCHED_UNMAP_TLB_FLUSH ;;
	*)	ok "$name" is_off "${config[1]}" ;;
	esac
	for commit in "${commits[@]}"; do
		title=$(git -C "$src" log -1 --format=%s "$commit")
		run says "$commit"
		compiled=$status
		run diff <(echo "$before") <(echo "$out")
		ok "$name: compiles, with no new warning: $title" is "$compiled $out" "0 "
	done
done
done_testing
