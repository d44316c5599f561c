#!/bin/sh
# Runs every check that needs no test run, and fails if any of them does.
set -eu
cd "$(dirname "$0")/.."
. scripts/flags.sh

failed=''

check() { # check NAME COMMAND...
	name=$1
	shift
	if "$@"; then
		echo "lint: $name ok"
	else
		echo "lint: $name FAILED"
		failed="$failed $name"
	fi
}

formatting() {
	files=$(gofmt -l .) || return 1
	[ -z "$files" ] && return
	echo "not formatted (make fmt does it):"
	echo "$files"
	return 1
}

static() {
	staticcheck=$(sh scripts/tool.sh staticcheck) || return 1
	"$staticcheck" work
}

scripts() {
	for f in scripts/*.sh; do
		sh -n "$f" || return 1
	done
	bash -n .ci/run
}

# Files hold neither a path of the machine they were written on nor a note to
# oneself: the first is wrong everywhere else, the second belongs in an issue.
# The brackets keep the patterns from matching this file.
stray_text() {
	paths='(^|[^[:alnum:]_./-])(/[h]ome/|/[U]sers/|/[r]oot/|[A-Za-z]:\\[U]sers\\)'
	notes='(//|#|/\*|<!--|--) *([T]ODO|[F]IXME|[X]XX)([^[:alnum:]_]|$)'
	# 0: found, 1: nothing found, more: git itself failed.
	status=0
	git grep --no-index --exclude-standard -nIE -e "$paths" -e "$notes" -- . ':!go.sum' ':!*/go.sum' || status=$?
	[ "$status" -eq 1 ]
}

# CONTRIBUTING.md has these bounds. A source archive has no index to read.
layout() {
	files=$(git ls-files 2>/dev/null) || return 0
	bad=$(
		echo "$files" | cut -d/ -f1 | sort -u | awk 'END { if (NR > 70) print "the root has " NR " entries, more than 70" }'
		echo "$files" | grep '^[^/]*\.go$' | awk 'END { if (NR > 42) print "the root has " NR " Go files, more than 42" }'
		echo "$files" | grep '\.go$' | while read -r f; do
			case $f in *_test.go) most=800 ;; *) most=500 ;; esac
			awk -v f="$f" -v most="$most" 'END { if (NR > most) print f " has " NR " lines, more than " most }' "$f"
		done
	)
	[ -z "$bad" ] && return
	echo "$bad"
	return 1
}

check gofmt formatting
# The tags are those of tests that make targets of their own run.
check vet go vet -tags iana,n8n,chaos work
check staticcheck static
check tidy sh scripts/tidy-check.sh
check scripts scripts
check layout layout
check 'stray text' stray_text
# Like the tools, without the race detector, which makes its patterns slow.
check words env GOFLAGS= go run ./internal/wordcheck

if [ -n "$failed" ]; then
	echo "lint: FAILED:$failed" >&2
	exit 1
fi
