# Runs in a process of its own between a test process and a server, started as
#
#   sh -c THIS supervise DIRECTORY SIGNAL
#
# It reads commands from a pipe that only the test process can write to, and
# answers each with one line, a status. When the test process ends in any way, the
# pipe ends too. Then this script sends SIGNAL to the server and removes
# DIRECTORY.

# If an answer has no reader, the directory must still be removed.
trap '' PIPE

cd "$1" || exit 1
exec 2>>log
pid=''

# The programs get neither the pipe of commands nor that of answers.
run() {
	"$@" </dev/null >>log 2>&1
}

start() {
	if alive; then
		return 1
	fi
	"$@" </dev/null >>log 2>&1 &
	pid=$!
}

# A shell detects that a child has ended when it waits for another one. Until
# then, kill finds the process of a server that has ended.
alive() {
	sleep 0
	[ -n "$pid" ] && kill -0 "$pid" 2>/dev/null
}

stop() {
	if [ -n "$pid" ]; then
		kill -s "$1" "$pid" 2>/dev/null
		wait "$pid"
		pid=''
	fi
	return 0
}

while IFS= read -r command; do
	eval "$command"
	echo "$?"
done

stop "$2"
cd /
rm -rf "$1"
