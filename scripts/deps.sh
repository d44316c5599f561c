#!/bin/sh
# Makes sure that the programs the test suite runs are on the machine.
#
# What is missing is installed on Debian (and its relatives) as root; anywhere
# else the script stops with the command to run. One `need` line is one row:
#
#   need 'WHAT' 'CHECK' 'DEBIAN PACKAGES' 'COMMANDS ELSEWHERE' 'DEBIAN SERVICES'
#
# CHECK is shell code that succeeds where WHAT is present. The last column, if
# there is one, names the services that come with the packages and stay off:
# the tests start servers of their own, and this script starts none.
set -eu

missing='' packages='' elsewhere='' services=''

need() {
	if (eval "$2") >/dev/null 2>&1; then
		return
	fi
	missing="$missing${missing:+, }$1"
	packages="$packages${packages:+ }$3"
	elsewhere="$elsewhere
  $1: $4"
	services="$services${5:+ }${5-}"
}

# No function has the name of a program: `command -v` would find the function.

# The places are those of internal/pgtest/find.go.
postgres_programs() {
	initdb=$(command -v initdb) || initdb=''
	for dir in "${WEBTRIGGER_POSTGRES_BIN-}" "${initdb%/*}" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
		/usr/libexec/postgresql* /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin /usr/local/pgsql/bin; do
		if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && [ -x "$dir/psql" ] && [ -x "$dir/pgbench" ]; then
			return
		fi
	done
	return 1
}

pgbouncer_program() {
	for program in "${WEBTRIGGER_PGBOUNCER-}" "$(command -v pgbouncer)" /usr/sbin/pgbouncer /usr/local/sbin/pgbouncer \
		/opt/homebrew/opt/pgbouncer/bin/pgbouncer /usr/local/opt/pgbouncer/bin/pgbouncer; do
		if [ -x "$program" ]; then
			return
		fi
	done
	return 1
}

# The places are those of e2e/streams/nginx_test.go.
nginx_program() {
	for program in "${WEBTRIGGER_NGINX-}" nginx /usr/sbin/nginx /usr/local/sbin/nginx /opt/homebrew/bin/nginx /usr/local/bin/nginx; do
		if [ -n "$program" ] && command -v "$program"; then
			return
		fi
	done
	return 1
}

# The names are those of e2e/browser/browser.go.
chromium_program() {
	for program in "${WEBTRIGGER_CHROMIUM-}" chromium chromium-browser google-chrome /Applications/Chromium.app/Contents/MacOS/Chromium; do
		if [ -n "$program" ] && command -v "$program"; then
			return
		fi
	done
	return 1
}

# shellcheck disable=SC2016 # the checks expand their variables themselves
{
	need 'a C compiler (for the race detector)' 'echo "#include <stdlib.h>" | ${CC:-gcc} -fsyntax-only -x c -' 'gcc libc6-dev' 'on macOS: xcode-select --install; on Fedora: sudo dnf install gcc; on Alpine: sudo apk add build-base'
	need 'PostgreSQL' postgres_programs 'postgresql' 'on macOS: brew install postgresql@17; on Fedora: sudo dnf install postgresql-server postgresql-contrib; on Alpine: sudo apk add postgresql postgresql-contrib'
	need 'PgBouncer' pgbouncer_program 'pgbouncer' 'on macOS: brew install pgbouncer; on Fedora: sudo dnf install pgbouncer; on Alpine: sudo apk add pgbouncer' pgbouncer
	need 'nginx' nginx_program 'nginx' 'on macOS: brew install nginx; on Fedora: sudo dnf install nginx; on Alpine: sudo apk add nginx' nginx
	need 'the ip command (on Linux)' '[ "$(uname)" != Linux ] || command -v ip' 'iproute2' 'on Fedora: sudo dnf install iproute; on Alpine: sudo apk add iproute2'
	need 'curl' 'command -v curl' 'curl' 'install the package curl of your system'
	need 'Chromium' chromium_program 'chromium' 'on macOS: brew install --cask chromium; on Fedora: sudo dnf install chromium; on Alpine: sudo apk add chromium'
	need 'Node.js with npm' 'node --version && npm --version' 'nodejs npm' 'on macOS: brew install node; on Fedora: sudo dnf install nodejs npm; on Alpine: sudo apk add nodejs npm'
	need 'Python 3 with SQLite' 'python3 -c "import sqlite3"' 'python3' 'on macOS: brew install python; on Fedora: sudo dnf install python3; on Alpine: sudo apk add python3'
}

if [ -z "$missing" ]; then
	exit 0
fi

if ! [ -e /etc/debian_version ] || ! command -v apt-get >/dev/null; then
	echo "deps: missing: $missing. Install:$elsewhere" >&2
	exit 1
fi

if [ "$(id -u)" -ne 0 ]; then
	echo "deps: missing: $missing. This installs the Debian packages: $packages" >&2
	echo "  sudo sh scripts/deps.sh" >&2
	exit 1
fi

# What the next two functions write stays only while packages are installed.
policy='' clusters=''

# The package system asks this program whether it may start a service. Where
# there is one already, that one decides.
forbid_services() {
	if ! [ -e /usr/sbin/policy-rc.d ]; then
		policy=/usr/sbin/policy-rc.d
		printf '#!/bin/sh\n# From webtrigger: scripts/deps.sh is installing.\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
}

# PostgreSQL's package, when it is first installed, makes a database directory
# and has it served from the next boot on.
forbid_clusters() {
	clusters=/etc/postgresql-common/createcluster.d
	mkdir -p "$clusters"
	echo 'create_main_cluster = false' >"$clusters/webtrigger.conf"
}

clean_up() {
	rm -f "$log" ${policy:+"$policy"}
	if [ -n "$clusters" ]; then
		rm -f "$clusters/webtrigger.conf"
		rmdir -p --ignore-fail-on-non-empty "$clusters"
	fi
}

install_packages() {
	# shellcheck disable=SC2086 # a list of package names
	apt-get update &&
		apt-get install -y --no-install-recommends $packages
}

# What was not started now would be at the next boot; and a policy of the
# machine's own may have let it start.
disable_services() {
	for service in $services; do
		update-rc.d "$service" disable && invoke-rc.d "$service" stop || return 1
	done
}

echo "deps: missing: $missing. Installing the Debian packages: $packages"
log=$(mktemp)
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
export DEBIAN_FRONTEND=noninteractive
forbid_services
case " $packages " in
*' postgresql '*) forbid_clusters ;;
esac
if ! { install_packages && disable_services; } </dev/null >"$log" 2>&1; then
	cat "$log" >&2
	echo "deps: could not install: $packages" >&2
	exit 1
fi
