#!/bin/sh
# Prints "DIRECTORY FUNCTION" for each test function of the tree whose name
# begins with a prefix: sh scripts/find-tests.sh Fuzz
set -eu
cd "$(dirname "$0")/.."

# Dot directories and testdata hold no package, as the go command sees it;
# /dev/null makes grep name the file even if there is only one.
find . -name '.?*' -prune -o -name testdata -prune -o -name '*_test.go' \
	-exec grep "^func $1[[:alnum:]_]*([[:alnum:]_]* *\*testing\.[FT])" /dev/null {} + |
	sed 's|^\(.*\)/[^/]*:func \([[:alnum:]_]*\).*|\1 \2|' | sort
