# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The Test Anything Protocol for the tests in bash. Source it after ci/lib.sh,
# call ok for each test and done_testing at the end.

tests=0 failed=0
out='' err='' status=0

# ok NAME COMMAND...: one test, passed when COMMAND succeeds. On failure, out,
# err and status of the last run() are shown.
ok() {
	local name=$1 verdict=ok

	shift
	tests=$((tests + 1))
	"$@" || { verdict="not ok"; failed=1; }
	echo "$verdict $tests - $name"
	[[ $verdict == ok ]] ||
		printf '%s\n' "$*: status $status" "$out" "$err" | sed 's/^/# /'
}

# run COMMAND...: sets out, err and status.
run() {
	local file

	file=$(mktemp)
	status=0
	out=$("$@" 2>"$file" </dev/null) || status=$?
	err=$(<"$file")
	rm -f "$file"
}

is() { [[ $1 == "$2" ]]; }
matches() { [[ $1 =~ $2 ]]; }
not() { ! "$@"; }
one_line() { [[ $1 && $1 != *$'\n'* ]]; }

# until_true SECONDS COMMAND...: wait until COMMAND succeeds.
until_true() {
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		[[ $SECONDS -lt $end ]] || return 1
		sleep 0.1
	done
}

done_testing() { echo "1..$tests"; exit "$failed"; }
