#!/bin/sh
# Prints the path of a tool that tools/go.mod pins, built if need be:
#
#   "$(sh scripts/tool.sh staticcheck)" work
#
# The tools have a module of their own, outside go.work, so that what they
# need never moves a version that the library builds with. They are built without
# the flags of the suite, which make them slow.
set -eu
cd "$(dirname "$0")/../tools"
GOWORK=off GOFLAGS= exec go tool -n "$1"
