#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Test bench/bundle: unpacked in an empty directory, a short pair runs in it without
# network and build tools. prove bench/t/bundle.t

. "$(dirname "$0")/../../ci/lib.sh"
. "$TOP/ci/t/tap.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# What a machine has that nothing is built on.
make_path() {
	local dir file

	mkdir "$tmp/bin"
	for dir in /usr/sbin /usr/bin /sbin /bin; do
		for file in "$dir"/*; do
			case ${file##*/} in
			*gcc* | *g++* | cc | c99 | c89 | cpp* | *clang* | tcc | as | ld | ld.* | make | git* | \
				apt* | dpkg* | mmdebstrap | curl | wget) ;;
			*) ln -sf "$file" "$tmp/bin" ;;
			esac
		done
	done
}

# there COMMAND...: in the bundle, as on such a machine.
there() {
	(cd "$tmp/at/bench-bundle" && unshare -n env -i PATH="$tmp/bin" HOME="$tmp" "$@")
}

run env KERNELS="base patched" "$TOP/bench/bundle"
ok "packs" is "$status" 0
ok "says where, and what to do" matches "$err" "bench-bundle.tar.gz, [0-9]+ MiB: unpack it"
sum=$(sha256sum <"$BUILD/bench-bundle.tar.gz")
run env KERNELS="base patched" "$TOP/bench/bundle"
ok "the same input gives the same bytes" is "$(sha256sum <"$BUILD/bench-bundle.tar.gz")" "$sum"

make_path
mkdir "$tmp/at"
run tar -C "$tmp/at" -xf "$BUILD/bench-bundle.tar.gz"
ok "one directory" is "$status $(ls -A "$tmp/at")" "0 bench-bundle"
run there ./bench.sh --help
ok "--help" matches "$out" "bench.sh --here"
run there sh -c 'command -v gcc cc make git; cat /proc/net/dev | grep -v lo: | wc -l'
ok "no build tools, no network" is "$out" 2
run there PAIRS=1 CPUS=2 SCENARIO=pageout SETTINGS="MODES=madvise REGION_MIB=2 ROUNDS=1" ./bench.sh
ok "a pair runs" is "$status" 0
ok "and is compared" matches "$out" "pageout:.*base base.*patched patched.*pairs: 1"
run sh -c "cd '$tmp/at/bench-bundle/build/bench' && find . -name '*.json' | sed 's#.*/##' | sort | xargs"
ok "the results are files" is "$out" "base-01.json patched-01.json report.json"
run "$TOP/bench/compare" "$tmp"/at/bench-bundle/build/bench/*/pageout/{base,patched}-01.json
ok "for bench/compare" is "$status" 0
run there ./bench.sh --here list
ok "the scenarios, for this machine" matches "$out" "pageout .*vm "
run env KERNELS="base absent" "$TOP/bench/bundle"
ok "a kernel that is not there" matches "$status $err" "^1 .*no kernel .*absent/bzImage: run"
ok "nothing is left" is "$(find "$BUILD" -maxdepth 1 -name 'bundle*')" ""
done_testing
