#!/bin/sh
# Fuzzes every fuzz target of the tree for FUZZTIME each (30s if unset).
# It stops at the first finding: go has then written the input under the
# package's testdata/fuzz, to be committed with the fix.
set -eu
cd "$(dirname "$0")/.."

targets=$(sh scripts/find-tests.sh Fuzz)
if [ -z "$targets" ]; then
	echo "fuzz: no fuzz target found" >&2
	exit 1
fi

echo "$targets" | while read -r dir name; do
	echo "fuzz: $dir $name"
	go -C "$dir" test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-30s}" . </dev/null
done
