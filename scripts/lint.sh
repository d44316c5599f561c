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

check gofmt formatting
# The tags are those of tests that make targets of their own run.
check vet go vet -tags iana,n8n,chaos work
check staticcheck static
check tidy sh scripts/tidy-check.sh
check scripts scripts
check 'stray text' stray_text
# Like the tools, without the race detector, which makes its patterns slow.
check words env GOFLAGS= go run ./internal/wordcheck

if [ -n "$failed" ]; then
	echo "lint: FAILED:$failed" >&2
	exit 1
fi
