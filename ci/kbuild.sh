# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What ci/kernel and ci/deb share: kernels built from BUILD/src. Source it after
# ci/lib.sh, and set
#	obj	the object directory
#	log	where the output of make goes
# They have traps that call kill_apart: an interrupted build does not go on by itself.
# shellcheck disable=SC2154 # obj and log are theirs, apart is of lib.sh

src=$BUILD/src

# kbuild ARG...: make in the object directory.
kbuild() {
	local cc=$GCC

	! command -v ccache >/dev/null || cc="ccache $cc"
	kernel_make -C "$src" O="$obj" CC="$cc" "$@"
}

# apply_for KERNEL...: the series, and the patches of those KERNELs that are variants.
apply_for() {
	local kernel patch variants=()

	for kernel; do
		patch=$(variant_patch "$kernel")
		[[ -z $patch ]] || variants+=("$patch")
	done
	"$TOP/ci/source" apply "${variants[@]}"
}

# commit_of KERNEL: prints its id.
commit_of() {
	[[ -f $BUILD/commits/$1 ]] ||
		die "no kernel $1: there are: $(cd "$BUILD/commits" && echo *)"
	cat "$BUILD/commits/$1"
}

# checkout COMMIT: into the work tree.
checkout() {
	git -C "$src" -c core.hooksPath=/dev/null -c advice.detachedHead=false \
		checkout -q --force --detach "$1"
}

# make_apart KERNEL OBJECTS ARG...: kbuild ARG... on all CPUs, with a line of progress
# every half minute, in which OBJECTS follows their number. Dies if it fails.
make_apart() {
	local kernel=$1 objects=$2 status=0 started=$SECONDS next=30 from

	shift 2
	from=$(wc -l <"$log")
	start_apart kbuild -j"$(nproc)" "$@" </dev/null >>"$log" 2>&1
	while sleep 1; kill -0 "$apart" 2>/dev/null; do
		[[ $((SECONDS - started)) -lt $next ]] && continue
		next=$((next + 30))
		note "$kernel: $((SECONDS - started)) s, $(tail -n "+$from" "$log" |
			grep -c '^  [A-Z]') $objects (log: $log)"
	done
	wait_apart || status=$?
	[[ $status -eq 0 ]] ||
		die "$kernel does not build: $(grep -m 1 -E 'error:|Error ' "$log" || tail -n 1 "$log"): see $log"
}
