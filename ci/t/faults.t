#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What holding the locks of many folios could break: reclaim on the patched
# kernel where swap is full, slow, failing, on a file, or taken away, where
# memory is of many kinds, and where its owner is killed. ci/guest.d/reclaim-in
# has the situations and says what must hold in them. A hang ends in the time-out
# of vm-run, a splat in its status.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

SECONDS_MAX=300	# for one boot
DISK_MIB=64

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"	# QEMU's arguments are split at blanks: no path in them

# guest QEMU_ARGS COMMAND...
guest() {
	local qemu=$1

	shift
	run "$TOP/ci/vm-run" -k "$BUILD/patched/bzImage" -c 2 -m 512 -t "$SECONDS_MAX" \
		--swap none --append brd.rd_size=65536 --add "$TOP/ci" --qemu "$qemu" -- "$@"
}

# faults QEMU_ARGS SITUATION...: a boot, and a test for each of them.
faults() {
	local qemu=$1 name

	shift
	guest "$qemu" /ci/guest.d/reclaim-in "$@"
	for name; do
		ok "reclaim and $name" grep -qx "ok $name" <<<"$out"
	done
	ok "no complaint after $*" is "$status" 0
}

# disk MB: QEMU's arguments for a disk that writes and discards so much in a second.
disk() {
	truncate -s "${DISK_MIB}M" disk
	echo "-object throttle-group,id=slow,x-bps-write=${1}000000" \
		"-blockdev driver=file,node-name=file,filename=disk,discard=unmap" \
		"-blockdev driver=throttle,node-name=disk,throttle-group=slow,file=file,discard=unmap" \
		"-device virtio-blk-pci,drive=disk,serial=faults"
}

# The checks must be able to fail.
guest "" dirty-pages -o none -e
ok "a changed page is noticed" matches "$status $err" "^1 .*task 0: anon page"

faults "$(disk 10)" discard loop_on_tmpfs loop_on_ext4 full write_error zswap swap_off
faults "" mix damon large kill_owner oom removed_cgroup unfair
faults "$(disk 10)" legacy
done_testing
