#!/bin/sh
# Runs the whole suite of every module in go.work with the race detector.
# Arguments go to `go test`, for example: sh scripts/test.sh -run TestTrigger -v
#
# -count=1: a cached "ok" would not show that the suite passes on this machine.
# -shuffle: tests may not lean on their order; a failure prints its seed.
set -eu
cd "$(dirname "$0")/.."

sh scripts/deps.sh

# Nothing may be skipped for want of a program: deps.sh has seen to them all.
export WEBTRIGGER_TEST_ALL=1

# The race detector needs cgo, which go turns off when it finds no compiler.
export CGO_ENABLED=1

exec go test -race -count=1 -shuffle=on "$@" work
