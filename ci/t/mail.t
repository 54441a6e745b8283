#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# ci/series/mail: the messages that it prepares, there and back through b4 am, signed
# with a key made for it, a second revision, and wrong input. It works in a copy
# of this tree, with tags of its own, and sends nothing.

. "$(dirname "$0")/../lib.sh"
. "$TOP/ci/t/tap.sh"

if [[ ! $SERIES -ef $TOP/series ]]; then
	run "$TOP/ci/series/mail"
	ok "only the series for the default base is mailed" \
		matches "$status $err" "^1 mail: no cover letter for $SERIES"
	done_testing
fi

need git b4 perl
tmp=$(mktemp -d "$BUILD/mail.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
repo=$(git -C "$BUILD/src" rev-parse --path-format=absolute --git-common-dir)
base=$(cat "$BUILD/commits/base")
fixed=$(cat "$BUILD/commits/fixed")
patched=$(cat "$BUILD/commits/patched")
out_dir=$tmp/build/mail
author='A. N. Öther <sender@example.invalid>'

# The user's settings must do no harm, and nothing may be sent by them.
export HOME=$tmp/home XDG_DATA_HOME=$tmp/home/data XDG_CACHE_HOME=$tmp/home/cache
mkdir -p "$XDG_DATA_HOME" "$tmp/bin"
printf '#!/bin/sh\necho "$@" >>%s\n' "$tmp/sent" >"$tmp/sendmail"
chmod +x "$tmp/sendmail"
cat >"$HOME/.gitconfig" <<END
[user]
	name = user
	email = user@localhost.localdomain
[sendemail]
	smtpserver = $tmp/sendmail
[b4]
	send-series-to = list@localhost.localdomain
	send-endpoint-web = https://localhost.localdomain/
	keyringsrc = $XDG_DATA_HOME/patatt/public
[commit]
	gpgSign = true
[diff]
	noprefix = true
END

# submission FOLDER FROM TO: what the tests below are of: the submission whose letter is
# in that folder of the tree, from one commit to another.
submission() {
	folder=$1 from=$2 to=$3
	mapfile -t subjects < <(git -C "$BUILD/src" log --reverse --format=%s "$from..$to")
	total=${#subjects[@]}
}

# copy_top: this tree without its history, in $tmp/top
copy_top() {
	mkdir "$tmp/top"
	git -C "$TOP" ls-files -z --cached --others --exclude-standard |
		tar -C "$TOP" --null -T - --ignore-failed-read -c 2>/dev/null |
		tar -C "$tmp/top" -x
	git init -q "$tmp/top"
	commit_top
}

commit_top() {
	git -C "$tmp/top" add -A
	git -C "$tmp/top" -c commit.gpgSign=false commit -q -m "as it is"
}

# mail [VARIABLE=VALUE...]: ci/series/mail in the copy
mail() {
	env -u SUBMISSION -u REVISION -u TO -u CC -u ASSISTED_BY -u SIGNING_KEY -u SERIES BUILD="$tmp/build" \
		KERNEL_TREE="$repo" KERNEL_BASE="$base" IDENTITY="$author" "$@" \
		"$tmp/top/ci/series/mail"
}

# What nobody may change: the kernel's repository.
state() {
	git -C "$repo" for-each-ref
	git -C "$repo" worktree list
	cat "$repo/config"
}

# refused PATTERN: the last run failed with one line, which matches PATTERN.
refused() { is "$status" 1 && one_line "$err" && matches "$err" "$1"; }

# fields NAME FOLDER: that header of each message, in order; folded lines joined.
fields() {
	/usr/bin/python3 - "$@" <<-'END'
	import email.policy, pathlib, sys

	for path in sorted(pathlib.Path(sys.argv[2]).glob('*.eml')):
	    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
	    print(message[sys.argv[1]] or '')
	END
}

# addresses NAME FOLDER: those in that header of all messages
addresses() { fields "$@" | grep -oE '[^ <>,"]+@[^ <>,"]+' | sort -u; }

# numbered PREFIX FOLDER: the subjects are those of the commits, numbered.
numbered() {
	local want i

	want="[$1 0/$total] $(sed -n 's/^Subject: //p' "$tmp/top/$folder/cover-letter")"
	for ((i = 0; i < total; i++)); do
		want+=$'\n'"[$1 $((i + 1))/$total] ${subjects[i]}"
	done
	is "$(fields Subject "$2")" "$want"
}

# threaded FOLDER: all answer the cover letter, and no Message-Id is there twice.
threaded() {
	local ids cover

	ids=$(fields Message-Id "$1")
	cover=${ids%%$'\n'*}
	is "$(sort -u <<<"$ids" | grep -c '^<..*@..*>$')" $((total + 1)) || return
	is "$(fields In-Reply-To "$1" | uniq -c | xargs)" "1 $total $cover" || return
	is "$(fields References "$1" | uniq -c | xargs)" "1 $total $cover"
}

# covered FOLDER: the letter arrives as ci/series/cover-letter printed it.
covered() {
	local want

	want=$("$tmp/top/ci/series/cover-letter" "$tmp/top/$folder/cover-letter" | sed '1,/^$/d')
	is "$(sed '1,/^$/d' "$1"/0000-*.eml | head -n "$(wc -l <<<"$want")")" "$want"
}

# round_trip MBOX: b4 am and git am onto what it is made for make the tree, with the
# sender as author. b4 0.12 fails on the folded subjects of a mailbox that it
# opens, but not on those of one that it reads.
round_trip() {
	rm -rf "$tmp/am" "$tmp/linux"
	mkdir "$tmp/am"
	borrow "$repo" "$tmp/linux"
	git -C "$tmp/linux" sparse-checkout set --no-cone /mm/
	git -C "$tmp/linux" reset -q --hard "$from"
	(
		cd "$tmp/linux"
		b4 --offline-mode am --no-cache -m - -o "$tmp/am" <"$1" >"$tmp/am.log" 2>&1
		git -c commit.gpgSign=false am -q "$tmp"/am/*.mbx >>"$tmp/am.log" 2>&1
	) || return
	is "$(git -C "$tmp/linux" rev-parse "HEAD^{tree}")" \
		"$(git -C "$BUILD/src" rev-parse "$to^{tree}")" || return
	is "$(git -C "$tmp/linux" log --format='%an <%ae>' "$from.." | uniq -c | xargs)" \
		"$total $author"
}

# validated FOLDER: how many messages patatt finds signed by the sender
validated() {
	{ patatt validate "$1"/*.eml 2>&1 || :; } | grep -c '^ *PASS | sender@example.invalid,'
}

patatt() { (cd "$tmp/top" && /usr/bin/python3 -c 'import patatt; patatt.command()' "$@"); }

# maintainers: whom get_maintainer.pl names for the series.
maintainers() {
	(
		cd "$out_dir/batch"
		scripts/get_maintainer.pl --nogit --nogit-fallback --nogit-chief-penguins \
			--norolestats --nofixes "$tmp"/top/patches/*.patch
	) | grep -oE '[^ <>,"]+@[^ <>,"]+' | sort -u
}

copy_top
before=$(state)
submission patches "$fixed" "$patched"
git config --global user.email sender@example.invalid
patatt genkey -n throw-away >/dev/null 2>&1

if [[ $repo -ef $BUILD/linux.git ]]; then
	mkdir -p "$tmp/build"
	ln -s "$repo" "$tmp/build/linux.git"
	run mail KERNEL_TREE=
	ok "the release of Debian's source is named" \
		grep -qxE 'base: v[0-9.]+, as in linux-source-[0-9.]+ of Debian' "$out_dir"/v1/0000-*.eml
fi
run mail SIGNING_KEY=ed25519:throw-away ASSISTED_BY="LLM sparse"
ok "the messages are made" is "$status" 0
ok "they are told, and the command that sends them" \
	matches "$out" "PATCH $total/$total.*Nothing has been sent.*cd $out_dir/batch && b4 send[)]"
ok "they are numbered" numbered PATCH "$out_dir/v1"
ok "they are one thread" threaded "$out_dir/v1"
ok "the cover letter arrives whole" covered "$out_dir/v1"
ok "the base commit is named" grep -qx "base-commit: $base" "$out_dir"/v1/0000-*.eml
ok "the fix is named as what it needs" \
	is "$(grep -c '^prerequisite-patch-id: [0-9a-f]\{40\}$' "$out_dir"/v1/0000-*.eml)" \
	"$(git -C "$BUILD/src" rev-list --count "$base..$fixed")"
ok "the fix is named by its change-id" grep -qx \
	"prerequisite-change-id: $(sed -n 's/^Change-Id: //p' "$TOP/patches/fix/cover-letter"):v1" \
	"$out_dir"/v1/0000-*.eml
ok "all are from the sender" \
	is "$(fields From "$out_dir/v1" | uniq -c | xargs)" "$((total + 1)) $author"
ok "all are signed off by the sender" \
	is "$(grep -lx "Signed-off-by: $author" "$out_dir"/v1/*.eml | wc -l)" "$total"
ok "each says what has assisted" \
	is "$(grep -lx "Assisted-by: LLM sparse" "$out_dir"/v1/*.eml | wc -l)" "$total"
ok "nobody at localhost.localdomain is left" \
	not grep -q '@localhost\.localdomain>' "$out_dir"/v1/000[1-9]-*.eml
run comm -23 <(maintainers) <(cat <(addresses To "$out_dir/v1") <(addresses Cc "$out_dir/v1") | sort -u)
ok "they go to all maintainers" is "$status$out" 0
ok "the maintainers are some" matches "$(maintainers)" linux-mm@
ok "a setting of the user's adds nobody" not grep -q list@localhost "$out_dir"/v1/*.eml
ok "each is signed, and the key validates it" is "$(validated "$out_dir/v1")" $((total + 1))
cp -r "$out_dir/v1" "$tmp/changed"
sed -i '$a more' "$tmp"/changed/*.eml
ok "no signature validates a changed one" is "$(validated "$tmp/changed")" 0
ok "b4 am and git am make the patched tree" round_trip "$out_dir/v1.mbox"
ok "b4 am finds them signed" grep -q "Signed: ed25519/sender@example.invalid" "$tmp/am.log"
ok "b4 am knows the base" grep -q "using specified base-commit $base" "$tmp/am.log"

run mail REVISION=2
ok "no v2 without a v1" refused "no tag sent/v1"
git -C "$tmp/top" tag sent/v1
run mail
ok "no v1 twice" refused "v1 was sent"

# A second revision: one more line in the first changelog.
sed -i '0,/^Signed-off-by: /s//A line that v2 adds.\n\n&/' "$tmp"/top/patches/0001-*.patch
run mail REVISION=2 TO=list@localhost.localdomain
ok "what is not committed cannot be sent" refused "not committed: patches/0001-[^ ]*$"
commit_top
run mail REVISION=2 TO=list@localhost.localdomain
ok "v2 wants its changes told" refused "no section 'Changes in v2:'"
ok "v2 refused: the range-diff is there, for them to be written" \
	is "$(grep -cE '^ *1: .* ! +1: |^ *[0-9]+: .* = +[0-9]+: ' "$out_dir/v2.range-diff")" "$total"
ok "v2 refused: no branch or message is left" \
	is "$(ls "$out_dir/batch" "$out_dir/v2" "$out_dir/v2.mbox" 2>/dev/null)" ""

printf '\n---\nChanges in v2:\n- one more line\n' >>"$tmp/top/patches/cover-letter"
commit_top
run mail REVISION=2 TO="A List <list@localhost.localdomain>, second@localhost.localdomain" \
	CC=copy@localhost.localdomain
ok "v2 is made" is "$status" 0
ok "v2 is numbered" numbered "PATCH v2" "$out_dir/v2"
ok "v2 is one thread" threaded "$out_dir/v2"
ok "v2: the cover letter arrives whole, with the changes" covered "$out_dir/v2"
ok "v2: the range-diff is in the cover letter" \
	grep -qxE ' *[+] *A line that v2 adds\.' <(grep -A9999 '^Range-diff against v1:$' "$out_dir"/v2/0000-*.eml)
ok "v2 has the change-id of v1" \
	is "$(cat "$out_dir"/v[12]/0000-*.eml | grep '^change-id: ' | uniq -c | xargs | cut -d' ' -f1)" 2
ok "TO: the messages go there and nowhere else" \
	is "$(addresses To "$out_dir/v2" | xargs)" "list@localhost.localdomain second@localhost.localdomain"
ok "CC: and to the copies" is "$(addresses Cc "$out_dir/v2" | xargs)" copy@localhost.localdomain
ok "v2: b4 am and git am make the patched tree" round_trip "$out_dir/v2.mbox"

# The fix alone
submission patches/fix "$base" "$fixed"
run mail SUBMISSION=fix TO=list@localhost.localdomain
ok "the fix: the messages are made" is "$status" 0
ok "the fix: they are numbered" numbered PATCH "$out_dir/fix-v1"
ok "the fix: they are one thread" threaded "$out_dir/fix-v1"
ok "the fix: the cover letter arrives whole" covered "$out_dir/fix-v1"
ok "the fix: it needs no other" not grep -q '^prerequisite-' "$out_dir"/fix-v1/0000-*.eml
ok "the fix: for stable" grep -q '^Cc: stable@vger.kernel.org$' "$out_dir"/fix-v1/0001-*.eml
ok "the fix: b4 am and git am make the fixed tree" round_trip "$out_dir/fix-v1.mbox"
ok "the fix: the tag of it is its own" matches "$out" "git tag .* sent/fix-v1"
run mail SUBMISSION=other
ok "SUBMISSION that there is not" refused "no submission 'other'"

run mail REVISION=two
ok "REVISION that is no number" refused "REVISION=two is no revision"
run mail REVISION=4
ok "REVISION that skips one" refused "no tag sent/v3"
run mail IDENTITY=nobody
ok "IDENTITY without an address" refused 'IDENTITY=nobody .*Name <address>'
run mail IDENTITY="Nobody <nobody@localhost.localdomain>"
ok "IDENTITY that is the placeholder" refused 'Nobody .* is nobody: set IDENTITY'
run mail REVISION=2 TO=list@localhost.localdomain SIGNING_KEY=ed25519:no-such
ok "SIGNING_KEY that there is not" refused "b4 send failed: .*no-such"
ln -s /usr/bin/* "$tmp/bin/"
rm "$tmp/bin/b4"
run mail REVISION=2 PATH="$tmp/bin"
ok "no b4" refused "missing b4: run 'make setup'"
sed -i 's/{madvise_time_per_page}/{no_such_metric}/' "$tmp/top/patches/cover-letter"
commit_top
run mail REVISION=2 TO=list@localhost.localdomain
ok "a figure that no report has" refused "results/.*: no row no_such_metric"

ok "nothing was sent" not test -e "$tmp/sent"
ok "the kernel's repository is as it was" is "$(state)" "$before"
done_testing
