#!/bin/sh
# Measures how much of the root module's code the tests of all modules reach,
# and writes .build/cover.html to look at.
set -eu
cd "$(dirname "$0")/.."

mkdir -p .build
go test -coverpkg=./... -coverprofile=.build/cover.out work
go tool cover -html=.build/cover.out -o .build/cover.html
go tool cover -func=.build/cover.out | awk '/^total:/ { print "cover: " $3 " of statements; see .build/cover.html" }'
