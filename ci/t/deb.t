#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Packages for real machines, of a configuration that is built in a minute or two.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

run env CONFIG=/nowhere "$TOP/ci/make/deb"
ok "a configuration that is not there: status" is "$status" 1
ok "a configuration that is not there: one line" one_line "$err"
run env CONFIG=/dev/null "$TOP/ci/make/deb" no-such-kernel
ok "a kernel that is not there: status" is "$status" 1
ok "a kernel that is not there: says so" matches "$err" "no kernel no-such-kernel"

make -s -C "$BUILD/src" O="$tmp/tiny" tinyconfig >/dev/null 2>&1
echo CONFIG_64BIT=y >>"$tmp/tiny/.config"
run env CONFIG="$tmp/tiny/.config" "$TOP/ci/make/deb" patched
ok "packages are built" is "$status" 0
deb=$(tail -n 1 <<<"$out")
dpkg-deb --contents "$deb" >"$tmp/contents"
ok "the kernel is in its package" grep -q 'vmlinuz-.*-patched$' "$tmp/contents"
ok "the version tells which kernel it is" matches "$(dpkg-deb --field "$deb" Package)" "-patched$"
ok "the work tree is as it was" is "$(git -C "$BUILD/src" status --porcelain | head -n 3)" ""
done_testing
