#!/bin/sh
# Runs the tests of streams at length: 1,000 subscribers who connect, drop and
# reconnect at random over 100,000 events and two replicas, in memory and on Postgres,
# there with and without NOTIFY.
set -eu
cd "$(dirname "$0")/.."

export WEBTRIGGER_STREAM_EVENTS="${WEBTRIGGER_STREAM_EVENTS:-100000}"
echo "streams-long: $WEBTRIGGER_STREAM_EVENTS events"
exec go test -count=1 -timeout 2h -v -run '^Test(Streams|Subscribers)$' ./internal/streamtest ./store/bunstore
