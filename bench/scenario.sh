# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the scenarios of bench/run may use. bench/run reads it. TMP is a
# directory of the run, NAME the scenario, here is set where it may run.

# shellcheck disable=SC2034 # SETTINGS and so on are read by json.sh, INVALID by run

DISK_DIR=${DISK_DIR:-/var/tmp}
SETTINGS=() METRICS=() SAMPLES=()
NAME='' INVALID='' QUESTION='' CGROUP='' DISK='' BY_RECLAIM=''
LRU_GEN=/sys/kernel/mm/lru_gen/enabled
DAMON=/sys/kernel/mm/damon/admin/kdamonds
declare -A WAS=()	# what put() has replaced, by file
declare -A LOAD_JOB=() LOAD_IN=() LOAD_OUT=()	# of the loads that start() started

describe() { QUESTION=$1; note "$NAME: $1: $2"; }

takes() { :; }

guest() { :; }

rootless() { :; }

# by_reclaim WORD...: words of the settings below that need memory.reclaim.
by_reclaim() { BY_RECLAIM=$*; }

# lacks WORD: has this kernel nothing for that word of a setting?  memory.reclaim came with
# Linux 5.19.
lacks() {
	[[ $1 == mglru* && ! -e $LRU_GEN ]] ||
		[[ $1 == damon && ! -e $DAMON ]] ||
		[[ " $BY_RECLAIM " == *" $1 "* &&
			$(printf '5.19\n%s\n' "$(uname -r)" | sort -V | head -n 1) != 5.19 ]]
}

# setting NAME DEFAULT: $NAME, unless the environment has it, is DEFAULT, less what this
# kernel has not; if nothing is left of it, classic.
setting() {
	local value=$2 words word kept=()

	if [[ $here && ! ${!1:-} ]]; then
		read -ra words <<<"$2"
		for word in "${words[@]}"; do
			lacks "$word" || kept+=("$word")
		done
		if [[ ${#kept[@]} -lt ${#words[@]} ]]; then
			value="${kept[*]:-classic}"
			note "$1 is '$value', not '$2': this kernel has not what the rest needs"
		fi
	fi
	[[ ${!1:-} ]] || printf -v "$1" %s "$value"
	SETTINGS+=("$(json_string "$1"): $(json_value "${!1}")")
}

# each A B [SCALE]: A / B of each line of key=value words in TMP/rounds; B is 1 if it is
# "one".  Nothing where A is not counted.
each() {
	awk -v a="$1" -v b="$2" -v scale="${3:-1}" '{
		split("", v)
		v["one"] = 1
		for (i = 1; i <= NF; i++) { split($i, pair, "="); v[pair[1]] = pair[2] }
		if ((a in v) && v[b] > 0) printf "%.6g ", v[a] * scale / v[b]
	}' "$TMP/rounds"
}

# median: of the numbers on standard input, a line for each
median() {
	sort -g | awk '{ v[NR] = $1 } END { printf "%.6g", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# metric NAME UNIT lower|higher|none [SAMPLE...]: its value is the median of
# the samples, and which direction is better.  Without samples, as when this
# kernel does not count such things, there is no metric.
metric() {
	local name unit better value
	name=$(json_string "$1") unit=$(json_string "$2") better=$(json_string "$3")
	shift 3

	if [[ $# -eq 0 ]]; then
		note "$name is not counted on this kernel or machine"
		return
	fi
	value=$(printf '%s\n' "$@" | median)
	METRICS+=("$name: {\"value\": $value, \"unit\": $unit, \"better\": $better}")
	SAMPLES+=("$name: [$(join "$@")]")
}

# invalid REASON: this run must not be counted; ends it.
invalid() { INVALID=$1; exit 1; }

# program NAME: have bench/NAME.c in PATH; where the guest's maker did not
# compile it, compile it here.
program() {
	PATH=$PATH:$TMP
	command -v "$1" >/dev/null ||
		cc -O2 -pthread -o "$TMP/$1" "$(dirname "$0")/$1.c" || invalid "cannot compile $1.c"
}

# need_tool PROGRAM[:PACKAGE]...
need_tool() {
	local word

	for word; do
		command -v "${word%%:*}" >/dev/null ||
			invalid "no ${word%%:*} on this system: install ${word#*:}"
	done
}

# need_swap [MIB]: that much of it must be free.
need_swap() {
	local free

	[[ $(wc -l </proc/swaps) -gt 1 ]] || invalid "no swap device is in use: see swapon"
	free=$(awk '$1 == "SwapFree:" { print int($2 / 1024) }' /proc/meminfo)
	[[ $free -ge ${1:-1} ]] || invalid "$free MiB of swap are free, and $1 needed: see swapon"
}

# put TEXT FILE: what a file of /proc or /sys is to have until the run ends.
put() {
	local was

	[[ -w $2 ]] || invalid "no $2 on this kernel"
	was=$(bracketed "$2")
	was=${was:-$(<"$2")}
	# "7 (expanded: 1408)", of a trace buffer
	[[ -v WAS[$2] ]] || WAS[$2]=${was% (*}
	echo "$1" >"$2"
}

put_back() {
	local file

	for file in "${!WAS[@]}"; do
		echo "${WAS[$file]}" >"$file" || note "cannot set $file back to ${WAS[$file]}"
	done
}

# bracketed FILE: the chosen word of a sysfs file such as "always [madvise]".
bracketed() { sed -n 's/.*\[\(.*\)\].*/\1/p' "$1" 2>/dev/null || :; }

# use_disk: sets DISK to a new directory on a disk: of vm-run's "data", if this is
# a guest, else below DISK_DIR.
use_disk() {
	local device

	if [[ ${VM_ACCEL:-} ]]; then
		device=$("$TOP/ci/guest.d/disk-of" data) || invalid "this needs vm-run --disk"
		mkfs.ext4 -q "$device"
		mkdir "$TMP/disk"
		mount -t ext4 -o noinit_itable "$device" "$TMP/disk"
		DISK=$TMP/disk
	else
		case $(stat -f -c %T "$DISK_DIR") in
		tmpfs | ramfs) invalid "$DISK_DIR is in memory: set DISK_DIR to a directory on a disk" ;;
		esac
		DISK=$(mktemp -d "$DISK_DIR/bench.XXXXXX")
	fi
}

remove_disk() {
	[[ $DISK ]] || return 0
	[[ $DISK != "$TMP"/* ]] || umount "$DISK"
	rm -rf "$DISK"
	DISK=''
}

# make_cgroup [LIMIT_MIB]: sets CGROUP to the directory of a new memory cgroup.
make_cgroup() {
	local root=/sys/fs/cgroup

	grep -qsw memory $root/cgroup.controllers ||
		invalid "no memory controller in $root: mount cgroup v2 there"
	grep -qw memory $root/cgroup.subtree_control || WAS[$root/cgroup.subtree_control]=-memory
	echo +memory >$root/cgroup.subtree_control
	mkdir $root/bench.$$
	CGROUP=$root/bench.$$
	[[ $# -eq 0 ]] || echo "$1M" >"$CGROUP/memory.max"
}

# in_cgroup COMMAND [ARG...]
in_cgroup() { in_group "$CGROUP" "$@"; }

# in_group DIRECTORY COMMAND [ARG...]: of a cgroup
in_group() { (echo "$BASHPID" >"$1/cgroup.procs" && exec "${@:2}"); }

# reclaim_anon KIB: asks CGROUP for so much, no file pages at all; what there is may be less.
reclaim_anon() {
	local max=max	# before "max" that was 200

	echo "0 swappiness=max" 2>/dev/null >"$CGROUP/memory.reclaim" || max=200
	echo "$1K swappiness=$max" 2>/dev/null >"$CGROUP/memory.reclaim" || :
}

# reclaim_at RATE: so many pages a second by memory.reclaim, until it is stopped: ten times
# a second what is due by then.
reclaim_at() {
	local start=${EPOCHREALTIME/./} asked=0 due

	while sleep 0.1; do
		due=$(((${EPOCHREALTIME/./} - start) * $1 / 1000000))
		reclaim_anon $(((due - asked) * 4))
		asked=$due
	done
}

remove_cgroup() {
	[[ $CGROUP ]] || return 0
	echo 1 >"$CGROUP/cgroup.kill"
	until grep -q 'populated 0' "$CGROUP/cgroup.events"; do sleep 0.1; done
	find "$CGROUP" -depth -type d -exec rmdir {} +
	CGROUP=''
}

# start NAME COMMAND [ARG...]: a load in the background that prints "ready ...", and
# then waits for a line of input to begin (requests), or to end (round-trips).  Sets
# READY to the words behind "ready".
start() {
	local in out

	mkfifo "$TMP/$1.in" "$TMP/$1.out"
	"${@:2}" <"$TMP/$1.in" >"$TMP/$1.out" &
	LOAD_JOB[$1]=$!
	exec {in}>"$TMP/$1.in" {out}<"$TMP/$1.out"
	LOAD_IN[$1]=$in LOAD_OUT[$1]=$out
	rm "$TMP/$1.in" "$TMP/$1.out"
	read -ra READY <&"$out" || READY=()
	[[ ${READY[0]:-} == ready ]] || invalid "$1 did not get ready"
	READY=("${READY[@]:1}")
}

# go NAME: gives it that line.
go() {
	local in=${LOAD_IN[$1]}

	echo >&"$in"
	exec {in}>&-
}

# finish_load NAME: waits for its end; figure then reads the last line that it has
# printed, of key=value words.
finish_load() {
	local status=0 out=${LOAD_OUT[$1]}

	cat <&"$out" >"$TMP/figures"
	exec {out}<&-
	wait "${LOAD_JOB[$1]}" || status=$?
	cat "$TMP/figures"
	[[ $status -ne 137 ]] || invalid "$1 was killed: out of memory?"
	[[ $status -eq 0 ]] || invalid "$1 failed with status $status"
}

# start_pressure PERCENT RATE: the load "pressure" (see go), which writes to RATE pages a
# second of more memory than is available, PERCENT of it, until it is killed in the end.
start_pressure() {
	local mib

	program requests
	mib=$(available_mib "$1")
	need_swap "$mib"
	start pressure requests -c "$mib" -k "$(available_mib 95)" -r "$2" -h 0 -t 86400
	go pressure
}

# await_pressure: until memory is reclaimed because of it.
await_pressure() {
	local was

	was=$(reclaimed_by_pressure)
	until [[ $(reclaimed_by_pressure) -gt $was ]]; do
		kill -0 "${LOAD_JOB[pressure]}" 2>/dev/null || invalid "pressure ended"
		sleep 0.1
	done
}

reclaimed_by_pressure() { awk '$1 ~ /^pgsteal_(kswapd|direct)$/ { n += $2 } END { print n }' /proc/vmstat; }

# available_mib PERCENT: of the memory that is available.
available_mib() {
	awk -v percent="$1" '$1 == "MemAvailable:" { print int($2 / 102400 * percent) }' /proc/meminfo
}

# use_hugetlb: HUGETLB is then the file that says how many huge pages there are, none.
use_hugetlb() {
	HUGETLB=/proc/sys/vm/nr_hugepages
	[[ -e $HUGETLB ]] || invalid "no $HUGETLB: the kernel needs CONFIG_HUGETLBFS"
	[[ $(<$HUGETLB) == 0 ]] || invalid "$HUGETLB is $(<$HUGETLB): this machine has a use for huge pages"
	put 0 $HUGETLB
}

# stop NAME PID: a process in the background that would not end by itself.
stop() {
	kill -TERM "$2" 2>/dev/null || invalid "$1 ended before its time"
	wait "$2" 2>/dev/null || :
}

# figure KEY: its value in the key=value words of TMP/figures.
figure() { tr ' ' '\n' <"$TMP/figures" | sed -n "s/^$1=//p"; }

# latency NAME FROM: the metrics NAME_p50 and so on, of the figures FROM_p50 and so on.
latency() {
	local key

	for key in p50 p99 p999 max; do
		metric "$1_${key/p999/p99.9}" us lower "$(figure "$2$key")"
	done
}

# distribution NAME UNIT FILE: the metrics NAME_p50, NAME_p99 and NAME_max, of the numbers
# in FILE, which ascend, a line each.
distribution() {
	local n

	n=$(wc -l <"$3")
	metric "$1_p50" "$2" lower "$(sed -n "$((n / 2 + 1))p" "$3")"
	metric "$1_p99" "$2" lower "$(sed -n "$((n * 99 / 100 + 1))p" "$3")"
	metric "$1_max" "$2" lower "$(tail -n 1 "$3")"
}

# use_lru classic|mglru, until the run ends.
use_lru() {
	case $1,$(first $LRU_GEN) in
	classic,) ;;
	classic,*) put n $LRU_GEN ;;
	mglru,) invalid "no $LRU_GEN: the kernel needs CONFIG_LRU_GEN for mglru" ;;
	mglru,*) put y $LRU_GEN ;;
	*) invalid "no LRU '$1': there are classic and mglru" ;;
	esac
}

# check_reclaimed PAGES [COUNTER]: between the snapshots, or this run says nothing.
check_reclaimed() {
	local pages

	pages=$(delta "${2:-pgsteal}")
	[[ ${pages:-0} -ge $1 ]] || invalid "only ${pages:-0} pages were reclaimed, not $1"
}

# snapshot before|after: the counters that delta, rate and per read; nothing
# runs in between.  Names are those of /proc/vmstat; tlb_ipis (x86) and cal_ipis, for
# function calls, received by all CPUs; pgsteal, all pages reclaimed; kswapd_nsec, CPU
# time of kswapd; tcp_timeouts, of retransmissions; memcg_* from memory.stat and
# memory.events; psi_some and psi_full, microseconds of memory stall in the cgroup,
# or, where there is none, on the machine; uptime, seconds; idle, of all CPUs.
snapshot() {
	local psi=${CGROUP:+$CGROUP/memory.pressure}

	psi=${psi:-/proc/pressure/memory}
	[[ ! $INSTANCE ]] || "trace_$1"
	{
		awk '{ print } $1 ~ /^pgsteal_(anon|file)$/ { n += $2 } END { print "pgsteal", n }' /proc/vmstat
		awk '$1 ~ /^(TLB|CAL|IPI1):$/ {	# IPI1 is what arm64 and riscv64 call CAL
			name = $1 == "TLB:" ? "tlb" : "cal"
			for (i = 2; $i ~ /^[0-9]+$/; i++)
				n[name] += $i
		}
		END { for (name in n) printf "%s_ipis %.0f\n", name, n[name] }' /proc/interrupts
		awk '$1 == "TcpExt:" && !names { names = split($0, name); next }
		$1 == "TcpExt:" { for (i = 2; i <= names; i++) if (name[i] == "TCPTimeouts") print "tcp_timeouts", $i }' \
			/proc/net/netstat
		kswapd_nsec
		awk '{ print "uptime", $1; print "idle", $2 }' /proc/uptime
		[[ -z $CGROUP ]] || sed 's/^/memcg_/' "$CGROUP/memory.stat" "$CGROUP/memory.events"
		[[ ! -e $psi ]] || sed 's/^\([a-z]*\) .*total=/psi_\1 /' "$psi"
	} >"$TMP/$1"
}

kswapd_nsec() {
	local task name nsec sum=0

	for task in /proc/[0-9]*; do
		read -r name 2>/dev/null <"$task/comm" || continue
		[[ $name == kswapd* ]] || continue
		read -r nsec _ <"$task/schedstat" || return 0
		sum=$((sum + nsec))
	done
	echo "kswapd_nsec $sum"
}

# delta COUNTER: after - before; per COUNTER OTHER [SCALE]: delta / delta.
# They print nothing where it is not counted or the divisor is nought.
delta() {
	awk -v name="$1" '$1 == name { v[n++] = $2 }
		END { if (n == 2) printf "%.10g\n", v[1] - v[0] }' "$TMP/before" "$TMP/after"
}

per() {
	awk -v a="$(delta "$1")" -v b="$(delta "$2")" -v scale="${3:-1}" \
		'BEGIN { if (a != "" && b > 0) printf "%.6g\n", a * scale / b }'
}

rate() { per "$1" uptime; }
