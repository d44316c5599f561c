#!/bin/sh
# Runs the whole suite of every module in go.work with the race detector.
# Arguments go to `go test`, for example: sh scripts/test.sh -run TestTrigger -v
#
# -count=1: a cached "ok" would not show that the suite passes on this machine.
# -shuffle: tests must not depend on their order. A failure prints its seed.
# -vet=off: lint vets every package, and with more checks.
set -eu
cd "$(dirname "$0")/.."

sh scripts/deps.sh

# Nothing may be skipped for want of a program: deps.sh has seen to them all.
export WEBTRIGGER_TEST_ALL=1

. scripts/flags.sh

# A program with the race detector sleeps for a second before it exits, for reports of
# its last moment. The suite starts hundreds of programs.
export GORACE=atexit_sleep_ms=100

# The longest packages begin first, so that none of them runs alone at the end. Some
# packages wait for most of their time, so there is one at a time more than processors.
exec go test -race -count=1 -shuffle=on -vet=off -timeout 18m -p "$(($(getconf _NPROCESSORS_ONLN) + 1))" "$@" \
	./store/bunstore ./e2e/browser/console ./internal/outagetest ./e2e/pgx ./internal/crashtest . work
