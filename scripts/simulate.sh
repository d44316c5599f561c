#!/bin/sh
# Runs the simulation tests over SEEDS seeds (20000 if unset). They are part
# of the suite with fewer; this is the long run before a release.
set -eu
cd "$(dirname "$0")/.."

dirs=$(sh scripts/find-tests.sh TestSimulation | cut -d ' ' -f 1 | sort -u)
if [ -z "$dirs" ]; then
	echo "simulate: no TestSimulation found" >&2
	exit 1
fi

export WEBTRIGGER_SIM_SEEDS="${SEEDS:-20000}"
echo "simulate: $WEBTRIGGER_SIM_SEEDS seeds"
# shellcheck disable=SC2086 # a list of directories
exec go test -count=1 -timeout 2h -run '^TestSimulation' $dirs
