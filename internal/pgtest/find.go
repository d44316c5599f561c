package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// ErrNotInstalled reports that a program is missing on this machine. The message
// of an error that wraps it names the component.
var ErrNotInstalled = errors.New("not installed: run scripts/deps.sh")

// These name programs that are not where the package looks by itself: the
// directory of initdb, postgres and psql, and the file pgbouncer.
const (
	postgresVariable  = "WEBTRIGGER_POSTGRES_BIN"
	pgbouncerVariable = "WEBTRIGGER_PGBOUNCER"
)

// postgresPlaces are where packages put a server that is not on the PATH, so
// that versions can live side by side. scripts/deps.sh looks there as well.
var postgresPlaces = []string{
	"/usr/lib/postgresql/*/bin", // Debian
	"/usr/pgsql-*/bin",          // Fedora, packages of postgresql.org
	"/usr/libexec/postgresql*",  // Alpine
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin", // Homebrew on Intel
	"/usr/local/pgsql/bin",           // built from source
}

var pgbouncerPlaces = []string{
	"/usr/sbin/pgbouncer",
	"/usr/bin/pgbouncer",
	"/usr/local/sbin/pgbouncer",
	"/usr/local/bin/pgbouncer",
	"/opt/homebrew/bin/pgbouncer",
	"/opt/homebrew/opt/pgbouncer/bin/pgbouncer",
	"/usr/local/opt/pgbouncer/bin/pgbouncer",
}

// findPostgres returns the directory of the server's programs: the one that
// the environment names, else the one on the PATH, else that of the highest
// version.
func findPostgres() (string, error) {
	if dir := os.Getenv(postgresVariable); dir != "" {
		if !hasPrograms(dir) {
			return "", fmt.Errorf("pgtest: %s=%s holds no initdb, postgres and psql", postgresVariable, dir)
		}
		return dir, nil
	}
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if dir := filepath.Dir(initdb); filepath.IsAbs(dir) && hasPrograms(dir) {
			return dir, nil
		}
	}
	best, bestVersion := "", -1
	for _, place := range postgresPlaces {
		dirs, _ := filepath.Glob(place) // fails for a bad pattern only
		for _, dir := range dirs {
			if v := versionIn(dir); v > bestVersion && hasPrograms(dir) {
				best, bestVersion = dir, v
			}
		}
	}
	if best == "" {
		return "", fmt.Errorf("PostgreSQL %w", ErrNotInstalled)
	}
	return best, nil
}

// findPgBouncer returns the path of pgbouncer.
func findPgBouncer() (string, error) {
	if path := os.Getenv(pgbouncerVariable); path != "" {
		if !isProgram(path) {
			return "", fmt.Errorf("pgtest: %s=%s is not a program", pgbouncerVariable, path)
		}
		return path, nil
	}
	if path, err := exec.LookPath("pgbouncer"); err == nil && filepath.IsAbs(path) {
		return path, nil
	}
	if i := slices.IndexFunc(pgbouncerPlaces, isProgram); i >= 0 {
		return pgbouncerPlaces[i], nil
	}
	return "", fmt.Errorf("PgBouncer %w", ErrNotInstalled)
}

func hasPrograms(dir string) bool {
	for _, name := range []string{"initdb", "postgres", "psql"} {
		if !isProgram(filepath.Join(dir, name)) {
			return false
		}
	}
	return true
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

var digits = regexp.MustCompile(`\d+`)

// versionIn returns the first number in a path, 0 if it has none.
func versionIn(path string) int {
	v, _ := strconv.Atoi(digits.FindString(path))
	return v
}
