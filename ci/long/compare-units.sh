# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Units of tests, each in a guest of its own, on base and on patched, and what differs.
# Source it after ci/lib.sh, define
#	unit_args UNIT	sets args, the options for ci/unit
# and call on_exit kill_jobs, choose, and run_both for each set of kernels. A unit in
# which patched is worse is run RERUNS more times on both: what fails on base, too, is
# no difference.
#
# A log stands until its stamp changes (see ci/unit): what was interrupted goes on where it
# was. Beside UNIT.RUN.log are .console, what the kernel said; .stamp; and maybe .int3, see
# stale_int3.

RERUNS=${RERUNS:-3}

all=() args=() units=() jobs=()

# stamp IMAGES KERNEL UNIT: a word that changes when what comes of the unit may.
stamp() {
	unit_args "$3"
	"$TOP/ci/unit" --stamp -k "$1/$2/bzImage" "${args[@]}" "$3"
}

# stale_int3 CONSOLE: did the guest crash by a fault of the emulator? When a vCPU
# translates an instruction while another one patches it, QEMU may keep the int3 that
# the kernel has there for a moment. Executed later, it is a crash, but then memory
# has no int3 (cc) before the address at which Code: has its <>. If it has, or the
# kernel complained of something else before, it is a crash of the kernel.
stale_int3() {
	local first=''

	grep -q 'VM_ACCEL=tcg' "$1" || return 1
	read -r first < <(awk -v names=1 -f "$TOP/ci/splat.awk" "$1") || return 1
	[[ $first == "Oops: intN:"* ]] &&
		awk '/Oops: int3/ { oops = 1 }
			oops && /Code: .* <..>/ { sub(/ <.*/, ""); exit $NF == "cc" }' "$1"
}

# boot IMAGES KERNEL UNIT LOG: leaves LOG.log, LOG.console and LOG.stamp. All is well if
# a guest could start: the log tells what came of it.
boot() {
	local status=0

	unit_args "$3"
	start_job "$TOP/ci/unit" -k "$1/$2/bzImage" -o "$4" "${args[@]}" "$3" >"$4.tmp" 2>&1
	wait_job || status=$?
	[[ $status != 125 ]] || die "$3 on $2 did not start: $(tail -n 1 "$4.tmp")"
	rm "$4.tmp"
}

# run_unit IMAGES DIR KERNEL UNIT RUN: makes the log. After a stale_int3 there is one
# more boot, which counts, come what may.
run_unit() {
	local log=$2/$3/$4.$5

	mkdir -p "$2/$3"
	rm -f "$log".*
	boot "$1" "$3" "$4" "$log"
	stale_int3 "$log.console" || return 0
	note "the emulator executed an int3 that was not there: again (see $log.int3)"
	mv "$log.console" "$log.int3"
	boot "$1" "$3" "$4" "$log"
}

# run_beside ARG...: run_unit, in a process that takes the guest with it.
# shellcheck disable=SC2030,SC2031 # that process has a job of its own
run_beside() (
	job=''
	on_exit kill_job
	run_unit "$@"
)

# run_units IMAGES DIR RUN UNIT...: on base and patched, if there is no log. Both run at
# once: each is the other's load.
# shellcheck disable=SC2031
run_units() {
	local images=$1 dir=$2 run=$3 kernel unit n=0 status

	shift 3
	for unit; do
		n=$((n + 1))
		for kernel in base patched; do
			[[ ! -f $dir/$kernel/$unit.$run.stamp ]] || continue
			start_job run_beside "$images" "$dir" "$kernel" "$unit" "$run"
			jobs+=("$job")
		done
		[[ ${#jobs[@]} -gt 0 ]] || continue
		note "$unit, run $run, $n of $#, $SECONDS s so far (logs: $dir/*/$unit.$run.log)"
		status=0
		for job in "${jobs[@]}"; do
			wait_job || status=1
		done
		jobs=()
		[[ $status -eq 0 ]] || exit 1
	done
}

# kill_jobs: for exit traps.
kill_jobs() {
	for job in "${jobs[@]}"; do
		kill_job
	done
}

# drop_stale IMAGES DIR: all that belongs to a log which does not stand.
drop_stale() {
	local images=$1 dir=$2 kernel log unit

	for kernel in base patched; do
		for log in "$dir/$kernel"/*.log; do
			unit=${log##*/}
			unit=${unit%.*.log}
			log=${log%.log}
			[[ -f $log.stamp && " ${all[*]} " == *" $unit "* &&
			   $(<"$log.stamp") == "$(stamp "$images" "$kernel" "$unit")" ]] || rm -f "$log".*
		done
	done
}

# run_both IMAGES DIR OPTION: the units, with logs in DIR. OPTION is one of
# ci/long/difference, or nothing.
run_both() {
	local images=$1 dir=$2 option=$3 run worse

	! cmp -s "$images"/{base,patched}/bzImage ||
		die "$images: base and patched are the same image: remove both, and start again"
	mkdir -p "$dir"
	drop_stale "$images" "$dir"
	compgen -G "$dir/*/*.log" >/dev/null || rm -f "$dir/env"
	{ host_env "$dir"; echo; } >>"$dir/env"	# of each start
	run_units "$images" "$dir" 1 "${units[@]}"
	mapfile -t worse < <("$TOP/ci/long/difference" --units ${option:+"$option"} --of "${units[*]}" "$dir")
	for ((run = 2; run <= RERUNS + 1 && ${#worse[@]} > 0; run++)); do
		note "again, run $run of $((RERUNS + 1)): ${worse[*]}"
		run_units "$images" "$dir" "$run" "${worse[@]}"
	done
}

# check_both: what the environment says.
check_both() {
	[[ $RERUNS =~ ^(0|[1-9][0-9]?)$ ]] || die "RERUNS=$RERUNS is not a number from 0 to 99"
}

# choose UNIT...: sets all, and units, those that UNITS names; without UNITS, all.
choose() {
	local name

	all=("$@")
	units=("$@")
	[[ ${UNITS:-} ]] || return 0
	read_words units "$UNITS"
	for name in "${units[@]}"; do
		[[ " $* " == *" $name "* ]] || die "no unit '$name': there are: $*"
	done
}
