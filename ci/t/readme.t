#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The READMEs name nothing that is not there, and leave out no target. That their
# commands do what they say is for ci/long/walk-readmes to see.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

cd "$TOP"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

mapfile -t readmes < <(git ls-files README.md '*/README.md')

targets() { make -s help | awk '$1 == "make" { print $2 }' | sort; }

# dead_links: links to files that are not in this tree, or to headings that are not there.
dead_links() {
	local readme link file

	for readme in "${readmes[@]}"; do
		grep -oE '\]\([^)]+\)' "$readme" | sed 's/^](//; s/)$//' | sort -u |
			while read -r link; do
				[[ $link != *://* ]] || continue
				file=$(realpath -sm --relative-to=. "$(dirname "$readme")/${link%%#*}")
				[[ $link != "#"* ]] || file=$readme
				if ! git ls-files --error-unmatch "$file" >/dev/null 2>&1 ||
					[[ $link == *"#"* ]] && ! headings "$file" | grep -qx -- "${link#*#}"; then
					echo "$readme: $link"
				fi
			done
	done
}

# headings FILE: as links have them.
headings() {
	sed -nE 's/^#+ //p' "$1" | tr '[:upper:] ' '[:lower:]-' | tr -cd 'a-z0-9\n-'
}

# named: the targets that the READMEs name.
named() { cat "${readmes[@]}" | grep -oE '\bmake [a-z][a-z-]*' | sed 's/^make //' | sort -u; }

# not_in FILE NAME...: those that FILE does not name.
not_in() {
	local file=$1 name

	shift
	for name; do
		name=${name%.patch}
		grep -qF "\`${name##*/}\`" "$file" || echo "$name"
	done
}

# dry COMMAND: does make know what to do for it?
dry() { (unset BASE && eval "$1 -n" >/dev/null); }

run dead_links
ok "no dead link" is "$out" ""
run comm -23 <(targets) <(named)
ok "every target is in the README" is "$out" ""

run not_in bench/README.md bench/scenarios/* bench/variants/*.patch
ok "every scenario and variant is in bench/README.md" is "$out" ""
run not_in ci/README.md ci/t/*.t bench/t/*.t
ok "every test is in ci/README.md" is "$out" ""

run ci/long/walk-readmes --list
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
run env README="$tmp/README.md" ci/long/walk-readmes --list
ok "blocks without their comments" is "$out" $'01 this: true\n01 this: false\n02 nowhere: true'
run env README="$tmp/README.md" BUILD="$tmp/build" KERNEL_TREE="$BUILD/linux.git" KERNEL_BASE=pristine ci/long/walk-readmes
ok "a block that fails, and one that is nowhere, are seen" is "$status $(grep -c '^not ok' <<<"$out")" "1 2"
ok "the reason" matches "$out$err" "fenced 'sh nowhere'"
done_testing
