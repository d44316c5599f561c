package pgtest

import "testing"

var (
	Identifier = identifier
	Require    = require
)

// PsqlAt runs psql against any DSN.
func (s *Server) PsqlAt(dsn, sql string) (string, error) { return psql(s.bin, dsn, sql) }

// HidePrograms makes this package find no program for the length of a test,
// which must not run in parallel.
func HidePrograms(t *testing.T) {
	t.Setenv("PATH", "")
	t.Setenv(postgresVariable, "")
	t.Setenv(pgbouncerVariable, "")
	postgres, pgbouncer := postgresPlaces, pgbouncerPlaces
	t.Cleanup(func() { postgresPlaces, pgbouncerPlaces = postgres, pgbouncer })
	postgresPlaces, pgbouncerPlaces = nil, nil
}
