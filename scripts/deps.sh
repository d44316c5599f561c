#!/bin/sh
# Makes sure that the programs the test suite runs are on the machine.
#
# What is missing is installed on Debian (and its relatives) as root; anywhere
# else the script stops with the command to run. One `need` line is one row:
#
#   need 'WHAT' 'CHECK' 'DEBIAN PACKAGES' 'COMMANDS ELSEWHERE'
#
# CHECK is a shell command that succeeds where WHAT is present.
set -eu

missing='' packages='' elsewhere=''

need() {
	if sh -c "$2" >/dev/null 2>&1; then
		return
	fi
	missing="$missing${missing:+, }$1"
	packages="$packages${packages:+ }$3"
	elsewhere="$elsewhere
  $1: $4"
}

# shellcheck disable=SC2016 # the checks expand their variables themselves
{
	need 'a C compiler (for the race detector)' 'echo "#include <stdlib.h>" | ${CC:-gcc} -fsyntax-only -x c -' 'gcc libc6-dev' 'on macOS: xcode-select --install; on Fedora: sudo dnf install gcc; on Alpine: sudo apk add build-base'
}

if [ -z "$missing" ]; then
	exit 0
fi

if ! [ -e /etc/debian_version ] || ! command -v apt-get >/dev/null; then
	echo "deps: missing: $missing. Install:$elsewhere" >&2
	exit 1
fi

if [ "$(id -u)" -ne 0 ]; then
	echo "deps: missing: $missing. Run:" >&2
	echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $packages" >&2
	exit 1
fi

echo "deps: missing: $missing. Installing the Debian packages: $packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of package names
if ! {
	apt-get update &&
		apt-get install -y --no-install-recommends $packages
} </dev/null >"$log" 2>&1; then
	cat "$log" >&2
	echo "deps: could not install: $packages" >&2
	exit 1
fi
