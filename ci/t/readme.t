#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# README.md names nothing that is not there, and leaves out no target. That its
# commands do what they say is for ci/walk to see.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

cd "$TOP"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

targets() { make -s help | awk '{ print $2 }' | sort; }

# dead_links: links to files that are not in this tree.
dead_links() {
	local link

	grep -oE '\]\([^)]+\)' README.md | sed 's/^](//; s/)$//; s/#.*//' | sort -u |
		while read -r link; do
			[[ ! $link || $link == *://* ]] || git ls-files --error-unmatch "$link" >/dev/null 2>&1 ||
				echo "$link"
		done
}

# named: the targets that README.md names.
named() { grep -oE '\bmake [a-z][a-z-]*' README.md | sed 's/^make //' | sort -u; }

# dry COMMAND: does make know what to do for it?
dry() { (unset BASE && eval "$1 -n" >/dev/null); }

run dead_links
ok "no dead link" is "$out" ""
run comm -23 <(targets) <(named)
ok "every target is in the README" is "$out" ""

run ci/walk --list
ok "the README has commands" test "$(wc -l <<<"$out")" -gt 15
commands=$out
while read -r command; do
	run dry "$command"
	ok "make knows: $command" is "$status" 0
done < <(sed -n 's/^[0-9]* this: \(make .*\)/\1/p' <<<"$commands")
while read -r file; do
	ok "there is $file" test -x "$file"
done < <(sed -n 's/^[0-9]* this: \(\(ci\|bench\)[^ ]*\) .*/\1/p' <<<"$commands")

# The parser itself, and a README that asks for what there is not.
cat >"$tmp/README.md" <<'EOF_README'
Text, `make nothing`.

```sh
true          # a comment
false
```

    indented

```sh nowhere
true
```
EOF_README
run env README="$tmp/README.md" ci/walk --list
ok "blocks without their comments" is "$out" $'01 this: true\n01 this: false\n02 nowhere: true'
run env README="$tmp/README.md" BUILD="$tmp/build" KERNEL_TREE="$BUILD/linux.git" KERNEL_BASE=pristine ci/walk
ok "a block that fails, and one that is nowhere, are seen" is "$status $(grep -c '^not ok' <<<"$out")" "1 2"
ok "the reason" matches "$out$err" "fenced 'sh nowhere'"
done_testing
