# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What ci/make/kernel and ci/make/deb share: kernels built from BUILD/src. Source it after
# ci/lib.sh, and set
#	obj	the object directory
#	log	where the output of make goes
# They have traps that call kill_job: an interrupted build does not go on by itself.
# shellcheck disable=SC2154 # obj and log are theirs, job is of lib.sh

src=$BUILD/src

# kbuild ARG...: make in the object directory.
kbuild() {
	local cc=$GCC

	! command -v ccache >/dev/null || cc="ccache $cc"
	kernel_make -C "$src" O="$obj" CC="$cc" "$@"
}

# apply_for KERNEL...: the series, and the patches of those KERNELs that are variants, with
# what they are on.
apply_for() {
	local kernel patch on variants=()

	for kernel; do
		patch=$(variant_patch "$kernel")
		[[ $patch ]] || continue
		on=$(variant_patch "$(variant_on "$kernel")")
		variants+=(${on:+"$on"} "$patch")
	done
	"$TOP/ci/make/source" apply "${variants[@]}"
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

# run_long NAME PROGRESS COMMAND...: COMMAND as a job, its output in log, with
# a line each half minute, in which PROGRESS is what that command says; its status.
run_long() {
	local name=$1 progress=$2 started=$SECONDS next=30

	shift 2
	start_job "$@" >>"$log" 2>&1
	while sleep 1; kill -0 "$job" 2>/dev/null; do
		[[ $((SECONDS - started)) -lt $next ]] && continue
		next=$((next + 30))
		note "$name: $((SECONDS - started)) s$($progress) (log: $log)"
	done
	wait_job
}

# objects: how many make has made since it started with the line log_from of log.
objects() { echo ", $(tail -n "+$log_from" "$log" | grep -c '^  [A-Z]') $objects_of"; }

# make_job KERNEL OBJECTS ARG...: kbuild ARG... on all CPUs, with lines of progress, in
# which OBJECTS follows their number. Dies if it fails.
make_job() {
	local kernel=$1 objects_of=$2 log_from

	shift 2
	log_from=$(wc -l <"$log")
	run_long "$kernel" objects kbuild -j"$(nproc)" "$@" ||
		die "$kernel does not build: $(grep -m 1 -E 'error:|Error ' "$log" || tail -n 1 "$log"): see $log"
}
