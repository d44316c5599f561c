#!/bin/sh
# Runs the tests of callbacks at length: the address rules on 10 million random
# addresses, and 100,000 runs whose ends race, each with exactly one POST.
set -eu
cd "$(dirname "$0")/.."

export WEBTRIGGER_ADDRESS_CASES="${WEBTRIGGER_ADDRESS_CASES:-10000000}"
export WEBTRIGGER_CALLBACK_RUNS="${WEBTRIGGER_CALLBACK_RUNS:-100000}"
echo "callbacks-long: $WEBTRIGGER_ADDRESS_CASES addresses"
go test -count=1 -timeout 2h -run '^TestOracleNearTheEdges$' ./internal/egress
echo "callbacks-long: $WEBTRIGGER_CALLBACK_RUNS runs, in memory and on Postgres, without faults and with kills"
go test -count=1 -timeout 3h -v -run "^Test(Race|Kills)" ./internal/callbacktest
