#!/bin/sh
# Checks that `go mod tidy` would change nothing, in the modules of go.work
# and in tools, which is not one of them, and that go.work.sum is complete.
set -eu
cd "$(dirname "$0")/.."

failed=''
dirs=$(go list -m -f '{{.Dir}}')
newline='
'
IFS=$newline
for dir in $dirs tools; do
	if ! GOWORK=off go -C "$dir" mod tidy -diff; then
		failed="$failed$newline  $dir"
	fi
done

# The go command adds missing sums to go.work.sum whenever it loads the workspace.
# A checkout stays clean only if the committed file has all of them.
go list -m all >/dev/null
go list -deps -test work >/dev/null
if ! git diff --exit-code -- go.work.sum; then
	echo 'tidy-check: go.work.sum has changed: add it to the commit' >&2
	exit 1
fi

if [ -n "$failed" ]; then
	echo "tidy-check: run \`go mod tidy\` in:$failed" >&2
	exit 1
fi
