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

# run_unit IMAGES DIR KERNEL UNIT RUN: the log tells what came of it, unless no guest
# could start.
run_unit() {
	local log=$2/$3/$4.$5 status=0

	mkdir -p "$2/$3"
	vm_args "$4" "$3"
	"$TOP/ci/vm-run" -k "$1/$3/bzImage" --log "$log.console" "${args[@]}" >"$log.tmp" 2>&1 &
	vm=$!
	wait "$vm" || status=$?
	vm=''
	mv "$log.tmp" "$log.log"
	[[ $status != 125 ]] || die "$4 on $3 did not start: $(tail -n 1 "$log.log")"
}

# run_units IMAGES DIR RUN UNIT...: on base and patched.
run_units() {
	local images=$1 dir=$2 run=$3 kernel unit n=0

	shift 3
	for unit; do
		for kernel in base patched; do
			n=$((n + 1))
			note "$unit on $kernel, boot $n of $(($# * 2)), $SECONDS s so far (log: $dir/$kernel/$unit.$run.log)"
			run_unit "$images" "$dir" "$kernel" "$unit" "$run"
		done
	done
}

# run_both IMAGES DIR OPTION UNIT...: logs to DIR, which is made anew. OPTION is one
# of ci/difference, or nothing.
run_both() {
	local images=$1 dir=$2 option=$3 run worse

	shift 3
	rm -rf "$dir"
	mkdir -p "$dir"
	host_env >"$dir/env"
	run_units "$images" "$dir" 1 "$@"
	mapfile -t worse < <("$TOP/ci/difference" --units ${option:+"$option"} "$dir")
	for ((run = 2; run <= RERUNS + 1 && ${#worse[@]} > 0; run++)); do
		note "again, run $run of $((RERUNS + 1)): ${worse[*]}"
		run_units "$images" "$dir" "$run" "${worse[@]}"
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
