# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the scripts of this tree share. Source it first:
#	. "$(dirname "$0")/../ci/lib.sh"
#
# Sets	TOP	the top of this tree
#	BASE	the Linux that the series is for, one of ci/bases (default 7.3)
#	ARCH	the architecture of the kernels and guests, one of ci/arches (default
#		x86_64), and KERNEL_ARCH, IMAGE, DEBIAN_ARCH, DEBIAN_SUITE, TRIPLET,
#		QEMU_PACKAGE as there; QEMU, the emulator; GCC, the compiler, and NEED_GCC,
#		the same for need; CROSS, what its name and its tools' begin with, ""
#		on a machine of ARCH
#	BUILD	everything generated (default TOP/build; for another BASE or ARCH than
#		the defaults directories of their names below it; set it to move it)
#	SERIES	the series file, and LINUX_SOURCE and LINUX_SUITE, what Debian has
#		BASE in: as in ci/bases, if they are not set
#	CONFIGS	names of the configuration's fragments in configs/
# It switches on strict mode: an unset variable or a failed command ends the
# script.

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CONFIGS=${CONFIGS:-guest reclaim storage cases observe events}

# die MESSAGE: what, where, what to do; exit status 1, or DIE_STATUS if set.
die() { echo "${0##*/}: $*" >&2; exit "${DIE_STATUS:-1}"; }

# note MESSAGE: progress, to standard error.
note() { echo "${0##*/}: $*" >&2; }

# read_words ARRAY TEXT: sets it to the words of TEXT, which may be on several lines.
read_words() { read -rd '' -a "$1" <<<"$2" || true; }

# look_up VARIABLE KIND TABLE: sets row, the words beside VARIABLE's value in ci/TABLE;
# default, the first in TABLE, which VARIABLE becomes if it is not set; and build, which
# has a directory for all but that. KIND is what the message calls it.
look_up() {
	local -n value=$1
	local name words

	row='' default=''
	while read -r name words; do
		[[ $name && $name != '#'* ]] || continue
		default=${default:-$name}
		[[ $name != "${value:=$name}" ]] || row=$words
	done <"$TOP/ci/$3"
	[[ $row ]] || die "no $2 '$value': ci/$3 has those that there are"
	[[ $value == "$default" ]] || build+=/$value
}

# set_base: sets what depends on BASE.
set_base() {
	local row default source suite series

	look_up BASE base bases
	read -r source suite series <<<"$row"
	LINUX_SOURCE=${LINUX_SOURCE:-$source}
	LINUX_SUITE=${LINUX_SUITE:-$suite}
	SERIES=${SERIES:-$TOP/$series}
}

# set_arch: sets what depends on ARCH.
# shellcheck disable=SC2034 # for those who source this
set_arch() {
	local row default

	look_up ARCH architecture arches
	read -r KERNEL_ARCH IMAGE DEBIAN_ARCH DEBIAN_SUITE TRIPLET QEMU_PACKAGE <<<"$row"
	QEMU=qemu-system-${TRIPLET%%-*} CROSS=$TRIPLET-
	[[ $(uname -m) != "${TRIPLET%%-*}" ]] || CROSS=''
	GCC=${CROSS}gcc NEED_GCC=${CROSS}gcc${CROSS:+:gcc-$TRIPLET}
	# The kernel's makefiles have their own meaning of ARCH.
	export -n ARCH
	[[ $ARCH == "$default" ]] || export ARCH
}

build=$TOP/build
set_base
set_arch
BUILD=${BUILD:-$build}
case $BUILD in /*) ;; *) BUILD=$PWD/$BUILD ;; esac
export BASE BUILD

# on_exit COMMAND: when this script ends, also by a signal, which is its exit status then.
on_exit() {
	# shellcheck disable=SC2064 # the COMMAND of now
	trap "$1" EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

# usage: the comment at the head of the calling script is its help text.
usage() { awk 'NR > 2 && !/^#/ { exit } NR > 2 { sub(/^# ?/, ""); print }' "$0"; }

# need COMMAND[:PACKAGE]...: every command must exist; PACKAGE is the Debian
# package that has it, where the names differ.
need() {
	local word missing=()

	for word; do
		command -v "${word%%:*}" >/dev/null || missing+=("${word#*:}")
	done
	[[ ${#missing[@]} -eq 0 ]] ||
		die "missing ${missing[*]}: run 'make setup', or: apt-get install ${missing[*]}"
}

# debian_mirror: the URI that this machine's apt fetches Debian from.
debian_mirror() {
	local uri

	# shellcheck disable=SC2016 # apt expands these
	uri=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' \
		'Created-By: Packages' |
		awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }')
	[[ $uri ]] || die "apt knows no Debian mirror: add one to its sources and run apt-get update"
	echo "${uri%/}"
}

# need_kernel IMAGE...: each must be there.
need_kernel() {
	local image

	for image; do
		[[ -f $image ]] || die "no kernel $image: run 'make kernel'"
	done
}

# need_space DIR GIB: DIR's file system must have that much free.
need_space() {
	local free

	mkdir -p "$1"
	free=$(df -BG --output=avail "$1" | tail -n 1 | tr -dc 0-9)
	[[ $free -ge $2 ]] ||
		die "$1 has $free GiB free, $2 GiB are needed: free some, or set BUILD to another place"
}

# kernel_make ARG...: make in a kernel tree, for ARCH.
kernel_make() {
	env -u ARCH make ARCH="$KERNEL_ARCH" ${CROSS:+"CROSS_COMPILE=$CROSS"} "$@"
}

# lock_build: for this script and those that it starts: one at a time in BUILD, which has
# one work tree.
lock_build() {
	local fd

	[[ ${BUILD_LOCKED:-} != "$BUILD" ]] || return 0
	mkdir -p "$BUILD"
	exec {fd}>"$BUILD/kernel.lock"
	flock -n "$fd" || { note "waiting for another build in $BUILD"; flock "$fd"; }
	export BUILD_LOCKED=$BUILD
}

# A child in a process group of its own, one at a time: killed with all that it
# started, and free to kill its group, as mmdebstrap does when it fails.
job=''

# start_job COMMAND...: with nothing to read, for at a terminal it would be stopped.
start_job() {
	set -m
	"$@" </dev/null &
	job=$!
	set +m
}

# wait_job: returns the status of the COMMAND.
wait_job() {
	local status=0

	wait "$job" || status=$?
	job=''
	return "$status"
}

# kill_job: for exit traps, and waits for its end; nothing happens if there is no
# such child.
kill_job() {
	[[ $job ]] || return 0
	kill -- "-$job" 2>/dev/null || true
	wait_job || true
}

# patches_dir: what the paths in SERIES begin at: "patches" beside it, or else the
# directory of that name which it is in, or else its own.
patches_dir() {
	local dir

	dir=$(dirname "$SERIES")
	if [[ -d $dir/patches ]]; then
		dir+=/patches
	elif [[ $dir == */patches/* ]]; then
		dir=${dir%/patches/*}/patches
	fi
	echo "$dir"
}

# series_patches: the paths of the patches, in the order of the series file SERIES.
series_patches() {
	[[ -f $SERIES ]] || die "no series file $SERIES"
	awk -v dir="$(patches_dir)/" '{ sub(/#.*/, "") } NF { print dir $1 }' "$SERIES"
}

# in_fix PATCH: is it of the fix, which is mailed and backported on its own?
in_fix() { [[ $(dirname "$1") == "$(patches_dir)"/fix?(/*) ]]; }

# variant_patch NAME: the path of the patch that makes the kernel NAME of the patched
# one, a variant of bench/variants or a mutant of selftests/mutants, or what is below
# them in BASE/ if it has to differ there; or the series file of a follow-up series,
# patches/NAME, which is of one BASE alone; "" if there is none.
variant_patch() {
	local file follow_up=$TOP/patches/$1/series

	# not the fix, nor the series of another base
	[[ $SERIES -ef $TOP/series && $1 != fix ]] && ! grep -q "[[:blank:]]patches/$1/series$" "$TOP/ci/bases" ||
		follow_up=''
	for file in "$TOP"/{bench/variants,selftests/mutants}/{"$BASE/",}"$1.patch" "$follow_up"; do
		[[ ! -f $file ]] || { echo "$file"; return; }
	done
}

# follow_ups: the names of the follow-up series that there are for BASE.
follow_ups() {
	local file name

	for file in "$TOP"/patches/*/series; do
		name=$(basename "${file%/series}")
		[[ $(variant_patch "$name") != "$file" ]] || echo "$name"
	done
}

# variant_on NAME: the kernel that it is made of; "" if BASE has none such.
variant_on() {
	local on

	on=$(sed -n 's/^On: //p' "$(variant_patch "$1")")
	[[ $on && $on != fixed && ! $(variant_patch "$on") ]] || echo "${on:-patched}"
}

# variant_patches FILE: what variant_patch has found, one patch a line.
variant_patches() {
	case $1 in
	*/series) sed "/^#/d; s,^,$(dirname "$1")/," "$1" ;;
	*)	echo "$1" ;;
	esac
}

# variant_name FILE: the name of that kernel.
variant_name() { basename "${1%/series}" .patch; }

# variant_subject NAME: of that patch, without the subsystem.
variant_subject() { sed -n 's/^Subject: \[PATCH\] [^ ]*: //p' "$(variant_patch "$1")"; }

# variant_trailer NAME TRAILER: the paragraph that begins with "TRAILER:", without that.
variant_trailer() {
	sed -n "/^$2: /,/^\(---\)\?\$/p" "$(variant_patch "$1")" |
		sed -e "s/^$2: //" -e '/^\(---\)\?$/d' | paste -sd ' '
}

# borrow REPOSITORY DIR [ARG...]: git init ARG... DIR, which finds the objects of
# the REPOSITORY (its git directory) too, and knows nothing else of it.
borrow() {
	local repo=$1 dir=$2

	shift 2
	git init -q --template= "$@" "$dir"
	[[ ! -d $dir/.git ]] || dir=$dir/.git
	mkdir -p "$dir/info"
	echo "$repo/objects" >"$dir/objects/info/alternates"
	[[ ! -f $repo/shallow ]] || cp "$repo/shallow" "$dir/"
}

# state: what ci/state prints, in one line.
state() { "$TOP/ci/state" | paste -sd " "; }

# host_env [DIR]: NAME=VALUE lines that say where and of what a measurement was made; DIR
# is for what ci/state leaves.
host_env() {
	echo "date=$(date -u +%Y-%m-%dT%H:%M:%SZ)"
	echo "host_cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n1)"
	echo "host_cores=$(nproc)"
	echo "host_kernel=$(uname -sr)"
	echo "host_load=$(cut -d' ' -f1-3 /proc/loadavg)"
	echo "qemu=$("$QEMU" --version | head -n1)"
	"$TOP/ci/state" "$@"
}
