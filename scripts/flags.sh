# Sourced by the checks and by the suite: the flags of every build that they do.
#
# Each set of flags compiles every package once more, the standard library included.
# So the checks, the tests and the programs that the tests build share one set. With
# -trimpath the hosts of internal/releasetest share it too, whose sources are elsewhere.

# The race detector needs cgo and a C compiler. Where there is none, only checks run.
if command -v "${CC:-gcc}" >/dev/null; then
	export CGO_ENABLED=1
	flags='-race -trimpath'
	# SQLite is C, translated to Go: three packages that share no memory with ours. With
	# the race detector they take four times the time. Their driver keeps it. No package of
	# the standard library can be added: with encoding/json and crypto/internal/fips140 here,
	# the detector reported races of values in a sync.Map, which there are not. The linker
	# keeps one copy of generic code, which can be one whose atomics it does not see.
	for package in modernc.org/sqlite/lib modernc.org/libc/... modernc.org/memory; do
		flags="$flags -gcflags=$package=-race=false"
	done
else
	flags=-trimpath
fi
GOFLAGS="$(go env GOFLAGS) $flags"
export GOFLAGS
