# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Units of tests, each in a guest of its own, on base and on patched, and what differs.
# Source it after ci/lib.sh, define
#	vm_args UNIT KERNEL	sets args, the arguments of vm-run but -k
# and call run_both for each set of kernels. A unit in which patched is worse is run
# RERUNS more times on both: what fails on base, too, is no difference.

RERUNS=${RERUNS:-3}

args=() units=() vm=''

# run_unit IMAGES OUT KERNEL UNIT RUN: the status does not matter, the log tells.
run_unit() {
	local log=$2/$3/$4.$5

	mkdir -p "$2/$3"
	vm_args "$4" "$3"
	"$TOP/ci/vm-run" -k "$1/$3/bzImage" --log "$log.console" "${args[@]}" >"$log.tmp" 2>&1 &
	vm=$!
	wait "$vm" || true
	vm=''
	mv "$log.tmp" "$log.log"
}

# run_units IMAGES OUT RUN UNIT...: on base and patched.
run_units() {
	local images=$1 out=$2 run=$3 kernel unit n=0

	shift 3
	for unit; do
		for kernel in base patched; do
			n=$((n + 1))
			note "$unit on $kernel, boot $n of $(($# * 2)), $SECONDS s so far (log: $out/$kernel/$unit.$run.log)"
			run_unit "$images" "$out" "$kernel" "$unit" "$run"
		done
	done
}

# run_both IMAGES OUT OPTION UNIT...: OPTION is one of ci/difference, or nothing.
# OUT is new.
run_both() {
	local images=$1 out=$2 option=$3 run worse

	shift 3
	rm -rf "$out"
	mkdir -p "$out"
	host_env >"$out/env"
	run_units "$images" "$out" 1 "$@"
	mapfile -t worse < <("$TOP/ci/difference" --units ${option:+"$option"} "$out")
	for ((run = 2; run <= RERUNS + 1 && ${#worse[@]} > 0; run++)); do
		note "again, run $run of $((RERUNS + 1)): ${worse[*]}"
		run_units "$images" "$out" "$run" "${worse[@]}"
	done
}

# check_both: what the environment says.
check_both() {
	[[ $RERUNS =~ ^(0|[1-9][0-9]?)$ ]] || die "RERUNS=$RERUNS is not a number from 0 to 99"
}

clean_up_both() {
	if [[ $vm ]]; then
		kill "$vm"
		wait "$vm" || :
	fi
}

# choose UNIT...: sets units, those that UNITS names; without UNITS, all.
choose() {
	local name

	units=("$@")
	[[ ${UNITS:-} ]] || return 0
	for name in $UNITS; do
		[[ " $* " == *" $name "* ]] || die "no unit '$name': there are: $*"
	done
	# shellcheck disable=SC2034 # for the caller
	read -ra units <<<"$UNITS"
}
