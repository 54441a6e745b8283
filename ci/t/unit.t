#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# ci/unit: wrong input, what it lists, what its stamp stands for, and one run in a guest.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

"$TOP/ci/make/guest"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# A tree and a BUILD of its own, of which each file may be changed.
cp -r "$TOP/"{ci,bench,patches,series} "$tmp"
mkdir -p "$tmp/selftests" "$tmp/build/selftests" "$tmp/build/"{base,patched}
cp -r "$TOP/selftests/"{extra,*.c} "$tmp/selftests"
cp -r "$BUILD/guest" "$tmp/build"
echo base >"$tmp/build/base/bzImage"
echo patched >"$tmp/build/patched/bzImage"
echo program >"$tmp/build/selftests/reclaim_states"

unit() { env -u SERIES BUILD="$tmp/build" "$tmp/ci/unit" "$@"; }
stamp() { unit --stamp "$@" || echo "no stamp"; }

test_input() {
	local arguments expected

	while IFS='|' read -r arguments expected; do
		# shellcheck disable=SC2086 # words of the table
		run unit $arguments
		ok "ci/unit $arguments: status" is "$status" 125
		ok "ci/unit $arguments: message" matches "$err" "$expected"
		ok "ci/unit $arguments: one line" one_line "$err"
	done <<-'EOF_CASES'
	|no UNIT given
	--prepare|no UNIT given
	flood|no unit 'flood': there are
	mix+flood|no unit 'mix\+flood'
	mm-none|no unit 'mm-none'
	reclaim-in|no unit 'reclaim-in'
	-k none mix|no kernel .*/none/bzImage: run 'make kernel'
	--lru old mix|--lru old: use classic or mglru
	-k|-k needs a value
	--list nothing|no kind 'nothing'
	reclaim_tlb|no program .*/reclaim_tlb: run ci/unit --prepare reclaim_tlb
	mm-cow|no tests in .*/mm: run ci/unit --prepare mm-cow
	EOF_CASES
}

# together NAME: the situations that share its guest.
together() { unit --list groups | grep -E "(^|\+)$1(\+|$)"; }

test_lists() {
	local names

	names=$(for name in "$TOP"/selftests/{,extra/}*.c; do basename "$name" .c; done | sort)
	# stable trees take the fix without its selftest
	[[ $SERIES -ef $TOP/series ]] || names=$(grep -v '^reclaim_file$' <<<"$names")
	ok "every selftest is a unit" is "$(unit --list selftest | sort)" "$names"
	names=$(ls "$TOP/ci/guest.d/situations")
	ok "every situation is a unit" is "$(unit --list situation)" "$names"
	ok "and in one group" is "$(unit --list groups | tr + '\n' | sort)" "$names"
	ok "a guest for what wants to be alone" is "$(together legacy)" legacy
	ok "one for what needs the same" is "$(together discard)" discard+flaky_disk
	cp "$tmp/ci/guest.d/situations/"{mix,new}
	ok "a new one costs a file" matches "$(together mix)" '\+new\+'
	rm "$tmp/ci/guest.d/situations/new"
}

# changes NAME STAMP UNIT...: the stamp of the UNIT is another then.
changes() { ok "the stamp stands for $1" test "$2" != "$(stamp "${@:3}")"; }

test_stamp() {
	local was file

	was=$(stamp mix)
	ok "a stamp" matches "$was" '^[0-9a-f]{64}$'
	ok "the same of the same" is "$(stamp mix)" "$was"
	changes "the kernel" "$was" -k base mix
	changes "the options" "$was" -m 600 mix
	changes "the environment" "$was" -e SPARE_MIB=1 mix
	changes "the LRU" "$was" --lru classic mix
	changes "the tests" "$(stamp reclaim_states)" reclaim_states zapped
	changes "the file system" "$(stamp reclaim_states)" reclaim_states@xfs
	for file in ci/{vm-run,unit,splat.awk} ci/guest.d/{init,reclaim-in,disk-of,on-fs,situations/mix} \
		build/patched/bzImage build/guest/bin/dirty-pages build/guest/debian.key; do
		was=$(stamp mix)
		echo >>"$tmp/$file"
		changes "$file" "$was" mix
	done
	was=$(stamp lost-writes)
	echo >>"$tmp/build/guest/bin/lost-writes"
	changes "lost-writes" "$was" lost-writes
	was=$(stamp reclaim_states)
	echo >>"$tmp/build/selftests/reclaim_states"
	changes "the program" "$was" reclaim_states
	was=$(stamp mix)
	echo >>"$tmp/ci/guest.d/situations/oom"
	echo >>"$tmp/build/guest/bin/metadata"
	ok "the stamp does not stand for others" is "$(stamp mix)" "$was"
}

test_guest() {
	local out_prefix=$tmp/run/unit

	run "$TOP/ci/unit" -k patched -o "$out_prefix" mix -- sh -c 'echo out; echo err >&2; exit 3'
	ok "a command in the guest of a unit" is "$status $out $err" "3 out err"
	ok "the log has both" is "$(sort "$out_prefix.log")" $'err\nout'
	ok "the console is kept" grep -q "Linux version" "$out_prefix.console"
	ok "the stamp is kept" matches "$(<"$out_prefix.stamp")" '^[0-9a-f]{64}$'
	run "$TOP/ci/unit" -k patched -o "$out_prefix" pageout -- test -x /bench/run
	ok "the guest of a scenario" is "$status$err" 0
	run "$TOP/ci/unit" -k patched -o "$out_prefix" --qemu -nonsense mix
	ok "no guest: status" is "$status" 125
	ok "no guest: no stamp" not test -e "$out_prefix.stamp"
}

test_input
test_lists
test_stamp
test_guest
done_testing
