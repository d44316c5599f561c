package pgtest

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// CreateDatabase creates an empty database and returns its name: the prefix,
// reduced to a-z, 0-9 and _ and to 40 characters, and a number that this
// server has not used before. An empty prefix is "test".
func (s *Server) CreateDatabase(prefix string) (name string, err error) {
	return s.CopyDatabase("template0", prefix)
}

// CopyDatabase is CreateDatabase with the contents of another database, which must
// have no sessions.
func (s *Server) CopyDatabase(template, prefix string) (name string, err error) {
	name = fmt.Sprintf("%s_%d", identifier(prefix), s.names.Add(1))
	sql := "CREATE DATABASE " + name + " TEMPLATE " + template
	if s.version >= 15 && !s.durable { // by default the copy is logged, which pays off where files are synced
		sql += " STRATEGY file_copy"
	}
	if err := s.exec(sql); err != nil {
		return "", err
	}
	return name, nil
}

// DropDatabase drops a database and ends the sessions that are in it. It is
// not an error if there is no such database.
func (s *Server) DropDatabase(name string) error {
	return s.exec(`DROP DATABASE IF EXISTS "` + strings.ReplaceAll(name, `"`, `""`) + `" WITH (FORCE)`)
}

// exec runs a statement that has no rows, as Psql does.
func (s *Server) exec(sql string) error {
	err := s.session.exec(s.bin, s.DSN("postgres"), sql)
	if errors.Is(err, errNoSession) {
		_, err = s.Psql("postgres", sql)
	}
	return err
}

// Psql runs statements, each in a transaction of its own, until one fails. It
// returns the rows: columns separated by |, one row a line, no header and no
// line break at the end.
func (s *Server) Psql(database, sql string) (string, error) {
	return psql(s.bin, s.DSN(database), sql)
}

func psql(bin, dsn, sql string) (string, error) {
	cmd := exec.Command(filepath.Join(bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", "-")
	cmd.Env = append(environ(), "PGCLIENTENCODING=UTF8")
	cmd.Stdin = strings.NewReader(sql)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("pgtest: psql: %w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSuffix(string(out), "\n"), err
}

// identifier reduces text to what needs no quotes in SQL.
func identifier(text string) string {
	id := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, text)
	id = strings.Trim(id[:min(len(id), 40)], "_")
	if id == "" {
		return "test"
	}
	if id[0] <= '9' {
		return "t" + id
	}
	return id
}
