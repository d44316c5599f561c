#!/bin/sh
# Checks that `go mod tidy` would change nothing, in the modules of go.work
# and in tools, which is not one of them.
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

if [ -n "$failed" ]; then
	echo "tidy-check: run \`go mod tidy\` in:$failed" >&2
	exit 1
fi
