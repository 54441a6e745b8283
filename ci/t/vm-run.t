#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Test ci/vm-run, ci/make/guest and ci/splat.awk: prove ci/t/vm-run.t

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"
set -m	# jobs get process groups of their own, and heed SIGINT

kernel=$BUILD/base/bzImage

# vm ARG...: run vm-run, set out, err and status.
vm() {
	status=0
	"$TOP/ci/vm-run" -k "$kernel" "$@" >"$tmp/out" 2>"$tmp/err" || status=$?
	out=$(tr -d '\0' <"$tmp/out")
	err=$(<"$tmp/err")
}

# qemu_runs MARK: a QEMU whose arguments contain MARK does.
qemu_runs() { pgrep -f "^qemu-system-x86_64 .*$1" >/dev/null; }

nothing_left() { [[ -z $(find "$BUILD/vm" -mindepth 1 ! -name 'accel.*') ]]; }

has_splat() { awk -f "$TOP/ci/splat.awk" <<<"$1" >/dev/null; }

test_splats() {
	local sample

	while read -r sample; do
		ok "splat: $sample" has_splat "$sample"
	done <<-'EOF_SAMPLES'
	WARNING: mm/vmscan.c:1 at shrink_folio_list+0x1/0x2, CPU#0: kswapd0/45
	[    1.234567] WARNING: possible circular locking dependency detected
	[    1.234567][   T45] BUG: KASAN: slab-use-after-free in folio_unlock+0x1/0x2
	BUG kmalloc-64 (Not tainted): Redzone overwritten
	BUG: Bad page state in process cat  pfn:12345
	INFO: trying to register non-static key.
	INFO: task kswapd0:45 blocked for more than 120 seconds.
	INFO: task kswapd0:45 blocked in I/O wait for more than 120 seconds.
	Kernel panic - not syncing: sysrq triggered crash
	Oops: general protection fault, probably for non-canonical address
	PANIC: double fault, error_code: 0x0
	UBSAN: array-index-out-of-bounds in mm/vmscan.c:1:2
	kernel BUG at mm/vmscan.c:1234!
	------------[ cut here ]------------
	irq 11: nobody cared (try booting with the "irqpoll" option)
	kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
	rcu: INFO: rcu_sched detected stalls on CPUs/tasks:
	rcu: INFO: rcu_sched self-detected stall on CPU
	rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 1-.... }
	rcu: rcu_sched kthread starved for 2600 jiffies! g1 f0x0 RCU_GP_WAIT_FQS(5)
	watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [a:1]
	watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1
	workqueue: BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0
	EOF_SAMPLES
	while read -r sample; do
		ok "no splat: $sample" not has_splat "$sample"
	done <<-'EOF_SAMPLES'
	Warning: unable to open an initial console.
	Spectre V2 : WARNING: Unprivileged eBPF is enabled
	rcu: INFO: Stall ended before state dump start
	watchdog: Delayed init of the lockup detector failed: -19
	traps: a[1] general protection fault ip:0 sp:0 error:0
	a invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0
	---[ end trace 0000000000000000 ]---
	EOF_SAMPLES
}

test_usage() {
	local case expected

	while IFS='|' read -r case expected; do
		status=0
		# shellcheck disable=SC2086 # words of the table
		err=$("$TOP/ci/vm-run" $case 2>&1) || status=$?
		ok "vm-run $case: status" is "$status" 125
		ok "vm-run $case: message" matches "$err" "$expected"
		ok "vm-run $case: one line" one_line "$err"
	done <<-EOF_CASES
	-- true|no kernel given
	-k /no/image -- true|no kernel image /no/image
	-k $kernel --nonsense -- true|unknown option --nonsense
	-k $kernel -c|-c needs a value
	-k $kernel -c none -- true|-c none is not a number
	-k $kernel -a hvf -- true|-a hvf: use auto
	-k $kernel --swap tape -- true|--swap tape: use zram
	-k $kernel --disk big -- true|--disk big is not a number
	-k $kernel --slow-disk big -- true|--slow-disk big is not a number
	-k $kernel -m 128 --slow-node -- true|--slow-node takes 128 MiB
	-k $kernel --add /no/file -- true|no file /no/file to --add
	-k $kernel --add /etc -- true|the guest has a /etc of its own
	-k $kernel --add $0 --add $0 -- true|is there already
	-k $kernel --log /no/dir/log -- true|cannot write --log
	-k $kernel|no COMMAND given
	-k $kernel --interactive|needs a terminal
	EOF_CASES

	mkdir "$tmp/path"
	ln -s /usr/bin/* "$tmp/path"
	rm -f "$tmp/path"/qemu-*
	status=0
	err=$(PATH=$tmp/path "$TOP/ci/vm-run" -k "$kernel" -- true 2>&1) || status=$?
	ok "no QEMU installed: status" is "$status" 125
	ok "no QEMU installed: message" matches "$err" "missing .*qemu-system-x86"
}

test_command() {
	local code

	for code in 0 3 255; do
		vm -- sh -c "exit $code"
		ok "status $code" is "$status" $code
	done
	vm -- sh -c 'kill -KILL $$'
	ok "killed by a signal" is "$status" 137
	vm -- no-such-command
	ok "unknown command: status" is "$status" 127
	ok "unknown command: message" matches "$err" "no-such-command: not found"
	ok "nothing left behind" nothing_left
}

test_output() {
	head -c 3000000 /dev/urandom >"$tmp/random"
	mkdir -p "$tmp/dir/sub"
	echo deep >"$tmp/dir/sub/file"
	vm --add "$tmp/random" --add "$tmp/dir" -- sh -c \
		'tac /dir/sub/file >&2; echo WARNING >&2; printf "a\r\n" >/dev/stderr; cat /random'
	ok "output: status" is "$status" 0
	ok "standard output is binary clean, --add FILE works" cmp "$tmp/random" "$tmp/out"
	ok "standard error is apart, --add DIR works" is "$err" $'deep\nWARNING\na\r'

	# The reader starts when all is written: then the host's buffers are full,
	# and the guest's hold the rest.
	truncate -s 500000 "$tmp/random"
	: >"$tmp/log"
	status=0
	"$TOP/ci/vm-run" -k "$kernel" --log "$tmp/log" --add "$tmp/random" -- \
		sh -c 'cat /random; echo written >/dev/kmsg' |
		{ until_true 60 grep -q written "$tmp/log" && sleep 2 && cat; } >"$tmp/out" ||
		status=$?
	ok "a slow reader loses nothing" cmp "$tmp/random" "$tmp/out"

	vm -- printf '[%s]' 'a b' '' "it's" "\$HOME \"*\"" $'two\nlines' '\t' -- -k
	ok "arguments arrive as they are" is "$out" \
		$'[a b][][it\'s][$HOME "*"][two\nlines][\\t][--][-k]'
}

test_machine() {
	local since

	vm -c 16 -m 700 --swap disk -- sh -c \
		'nproc; cat /proc/swaps; env; cat /sys/module/rcupdate/parameters/rcu_cpu_stall_timeout'
	ok "16 vCPUs: status" is "$status" 0
	ok "16 vCPUs: nproc" matches "$out" ^16$'\n'
	ok "swap on disk" matches "$out" $'\n'/dev/vda.*partition
	ok "16 vCPUs: RCU stalls are given time" matches "$out" 300$
	ok "environment" matches "$out" VM_CPUS=16
	ok "environment: swap" matches "$out" VM_SWAP=disk
	ok "environment: memory" matches "$out" VM_MIB=700
	ok "environment: accelerator" matches "$out" 'VM_ACCEL=(kvm|tcg)'
	ok "environment: host" matches "$out" "VM_HOST_CPUS=$(nproc)"

	since=$(date +%s)
	vm --qemu "-rtc base=2000-01-01" -- date +%s
	ok "a wrong clock is set" test "$out" -ge "$since"

	# shellcheck disable=SC2016 # for the guest
	vm --swap disk --disk 77 -- sh -c \
		'for disk in /sys/block/vd*; do cat "$disk/serial" "$disk/size"; echo; done; cat /proc/swaps'
	ok "--disk" matches "$out" data$((77 * 2048))
	ok "--disk is not swapped on" is "$(grep -c /dev/vd <<<"$out")" 1

	vm -c 1 -m 512 --append "printk.time=1 word=value" --qemu \
		"-object memory-backend-ram,id=a,size=256M -numa node,memdev=a,cpus=0
		-object memory-backend-ram,id=b,size=256M -numa node,memdev=b" -- sh -c 'nproc; cat /proc/swaps /proc/cmdline; ls /sys/devices/system/node; wc -c'
	ok "1 vCPU" matches "$out" ^1$'\n'
	ok "swap on zram by default" matches "$out" $'\n'/dev/zram0.*partition
	ok "--append" matches "$out" "printk.time=1 word=value"
	ok "--qemu" matches "$out" node1
	ok "empty standard input" matches "$out" $'\n'0$

	vm -a tcg -c 2 --log "$tmp/log" -- true
	ok "emulated: the clock is switched while there is one CPU" is \
		"$(tr -d '\r' <"$tmp/log" | grep -o 'Switched to clocksource tsc$\|smpboot: Booting' | paste -sd ,)" \
		"Switched to clocksource tsc,smpboot: Booting"

	vm --swap none -v --log "$tmp/log" -- sh -c \
		'wc -l </proc/swaps; cut -d" " -f2 /proc/mounts; cat /sys/fs/cgroup/cgroup.subtree_control'
	ok "no swap" matches "$out" ^1$'\n'
	ok "mounts" matches "$out" /sys/kernel/debug.*/sys/kernel/tracing.*/sys/fs/cgroup
	ok "cgroup controllers" matches "$out" 'cpuset memory'
	ok "-v tells the command line" matches "$err" qemu-system-x86_64
	ok "--log" grep -q "^Linux version" "$tmp/log"
	ok "the log of a good boot has no splat" not has_splat "$(<"$tmp/log")"
}

test_splat_in_guest() {
	vm -- sh -c 'echo "WARNING: by the test" >/dev/kmsg; echo done'
	ok "a warning: status" is "$status" 126
	ok "a warning: output" is "$out" "done"
	ok "a warning is shown" matches "$err" "WARNING: by the test"
	ok "a warning: the log is kept" test -s "${err##*console log: }"

	# The empty lines are more than a pipe holds: when all are in it, vm-wire has sent
	# what was before them.
	vm -t 60 -- sh -c 'echo before; yes "" | head -c 200000; echo c >/proc/sysrq-trigger; sleep 100'
	ok "panic: status" is "$status" 126
	ok "panic: output until then" is "$out" before
	ok "panic is shown" matches "$err" "Kernel panic - not syncing: sysrq"

	vm --append rdinit=/no/init -- true
	ok "no boot: status" is "$status" 126
	ok "no boot: message" matches "$err" "ended before the command started"

	vm --append VM_SWAP=disk -- true
	ok "no swap device: status" is "$status" 125
	ok "no swap device: message" matches "$err" "no swap of kind disk"

	vm --qemu -nonsense -- true
	ok "wrong QEMU argument: status" is "$status" 125
	ok "wrong QEMU argument: message" matches "$err" "QEMU failed with status 1"
	rm -f "$BUILD"/vm/console-*
}

test_timeout() {
	vm -t 15 --append "mark=$$" -- sh -c 'echo before; sleep 100'
	ok "time-out: status" is "$status" 124
	ok "time-out: output until then" is "$out" before
	ok "time-out: message" matches "$err" "no end after 15 seconds"
	ok "time-out leaves no QEMU" until_true 5 not qemu_runs "mark=$$"
	rm -f "$BUILD"/vm/console-*
	ok "time-out leaves no file" nothing_left
}

# A signal to the process group, as from a terminal, or to vm-run alone.
test_signal() {
	local signal=$1 target=$2 expected=$3 job

	env --default-signal "$TOP/ci/vm-run" -k "$kernel" --append "mark=$$" -- \
		sh -c 'echo up; sleep 100' >"$tmp/out" 2>"$tmp/err" &
	job=$!
	ok "SIG$signal: the guest is up" until_true 60 grep -q up "$tmp/out"
	kill "-$signal" -- "$target$job"
	status=0
	wait "$job" 2>/dev/null || status=$?
	err=$(<"$tmp/err")
	ok "SIG$signal: status" is "$status" "$expected"
	ok "SIG$signal leaves no QEMU" until_true 5 not qemu_runs "mark=$$"
	[[ $signal == KILL ]] || ok "SIG$signal leaves no file" nothing_left
}

test_interactive() {
	status=0
	echo "tty; echo \$TERM; exit 7" |
		TERM=vt220 script -qec "'$TOP/ci/vm-run' -k '$kernel' -t 60 --interactive" /dev/null \
			>"$tmp/out" || status=$?
	out=$(<"$tmp/out")
	ok "interactive: status" is "$status" 7
	ok "interactive: terminal" matches "$out" /dev/hvc0
	ok "interactive: TERM" matches "$out" $'\n'vt220
}

test_guest() {
	cp -p "$BUILD/guest/rootfs.cpio" "$tmp/first.cpio"
	"$TOP/ci/make/guest"
	ok "guest: nothing to do the second time" \
		not test "$BUILD/guest/rootfs.cpio" -nt "$tmp/first.cpio"
	BUILD=$tmp/second "$TOP/ci/make/guest" 2>/dev/null
	ok "guest: a second build gives the same bytes" \
		cmp "$tmp/first.cpio" "$tmp/second/guest/rootfs.cpio"
}

need_kernel "$kernel"
need pgrep:procps script:bsdutils

# Files of the runs apart from those of other runs, the guest shared.
"$TOP/ci/make/guest"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/build"
ln -s "$BUILD/guest" "$tmp/build/guest"
export BUILD=$tmp/build

test_splats
test_usage
test_command
test_output
test_machine
test_splat_in_guest
test_timeout
test_signal INT - 130
test_signal TERM "" 143
test_signal HUP "" 143
test_signal KILL "" 137
test_interactive
test_guest
done_testing
