#!/bin/sh
# Prints "DIRECTORY FUNCTION" for each test function of the tree whose name
# begins with a prefix: sh scripts/find-tests.sh Fuzz
set -eu
cd "$(dirname "$0")/.."

# The function's parameter is *testing.T, B or F, or it is a helper.
find . -name '.?*' -prune -o -name testdata -prune -o -name '*_test.go' \
	-exec sed -n "s|^func \($1[[:alnum:]_]*\)([[:alnum:]_]* *\*testing\.[TBF]).*|\1|p" {} /dev/null \; -print |
	awk '
		/^\.\// { sub("/[^/]*$", ""); for (i = 0; i < n; i++) print $0, names[i]; n = 0; next }
		{ names[n++] = $0 }
	' | sort
