#!/bin/sh
# Executes the n8n workflows of docs/recipes in a real n8n, which npm installs into
# .build/n8n: over a gigabyte, and some minutes the first time.
#
# --legacy-peer-deps: npm finds no tree in which all peers agree. --ignore-scripts:
# the tests need no native module. What package.json overrides is not to be had from
# the registry, or not in a version that all agree on.
set -eu
cd "$(dirname "$0")/.."

dir=$PWD/.build/n8n
wanted=e2e/recipes/testdata/n8n/package.json
if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 && a <= 24 || a === 20 && b >= 19 ? 0 : 1)'; then
	echo "recipes-n8n: n8n 1.x needs Node.js 20.19 to 24, not $(node --version)" >&2
	exit 1
fi
if ! cmp -s "$wanted" "$dir/installed.json"; then
	rm -rf "$dir"
	mkdir -p "$dir"
	cp "$wanted" "$dir/package.json"
	npm install --prefix "$dir" --legacy-peer-deps --ignore-scripts --no-audit --no-fund --prefer-offline --loglevel=error
	cp "$wanted" "$dir/installed.json"
fi
export WEBTRIGGER_N8N="$dir"
exec go test -tags n8n -count=1 -timeout 30m -v -run TestN8N ./e2e/recipes
