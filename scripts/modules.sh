#!/bin/sh
# Prints the directory of every module in go.work, one a line.
set -eu
cd "$(dirname "$0")/.."
go work edit -json | sed -n 's/.*"DiskPath": "\(.*\)".*/\1/p'
