// Package postgres is the database under test: a private, durable server (fsync,
// synchronous_commit), databases for one measurement each, and the resources that the
// server used.
package postgres

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// Server is a Postgres server.
type Server struct {
	dsn     *url.URL
	private *pgtest.Server // nil: an existing server
	pid     int            // of the postmaster; 0: not on this machine
	bin     string         // directory of its programs
}

// Start starts a private server, or uses the one that dsn names when that is not
// empty. There it creates and drops databases of its own and touches no other.
func Start(ctx context.Context, dsn string) (*Server, error) {
	s := &Server{}
	if dsn == "" {
		private, err := pgtest.Start(&pgtest.Options{Durable: true, Settings: map[string]string{
			"shared_buffers": "1GB",
			"max_wal_size":   "8GB", // no checkpoint in the middle of a window
		}})
		if err != nil {
			return nil, err
		}
		s.private, dsn = private, private.DSN("postgres")
	}
	if err := s.inspect(ctx, dsn); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// inspect looks for the postmaster, which is the parent of every backend.
func (s *Server) inspect(ctx context.Context, dsn string) (err error) {
	if s.dsn, err = url.Parse(dsn); err != nil {
		return fmt.Errorf("postgres: the DSN must be a URL: %w", err)
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var backend int
	err = conn.QueryRow(ctx, `SELECT pg_backend_pid(), coalesce((SELECT setting FROM pg_config WHERE name = 'BINDIR'), '')`).Scan(&backend, &s.bin)
	if err != nil {
		return err
	}
	if parent, name, ok := child.Parent(backend); ok && strings.HasPrefix(name, "postgres") {
		s.pid = parent
	}
	return nil
}

// Stop stops a private server.
func (s *Server) Stop() {
	if s.private != nil {
		s.private.Stop()
	}
}

// CPU returns the processor time that all processes of the server have used. ok is
// false if the system does not report it.
func (s *Server) CPU() (used time.Duration, ok bool) {
	if s.pid == 0 {
		return 0, false
	}
	return child.FamilyCPU(s.pid)
}

// DatabasePrefix begins the name of every database that Database creates.
const DatabasePrefix = "webtrigger_bench_"

// Database creates an empty database and returns its DSN.
func (s *Server) Database(ctx context.Context) (dsn string, err error) {
	name := DatabasePrefix + strings.ToLower(rand.Text())
	if err := s.admin(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	u := *s.dsn
	u.Path = "/" + name
	return u.String(), nil
}

// Drop drops a database that Database has created, and ends its connections.
func (s *Server) Drop(ctx context.Context, dsn string) error {
	u, err := url.Parse(dsn)
	if err != nil {
		return err
	}
	return s.admin(ctx, "DROP DATABASE "+strings.TrimPrefix(u.Path, "/")+" WITH (FORCE)")
}

// Checkpoint writes out what is dirty, so that nothing measured afterwards pays
// for what came before.
func (s *Server) Checkpoint(ctx context.Context) error { return s.admin(ctx, "CHECKPOINT") }

func (s *Server) admin(ctx context.Context, statements ...string) error {
	return Exec(ctx, s.dsn.String(), statements...)
}

// Exec runs statements on a connection of their own, each in its own
// transaction.
func Exec(ctx context.Context, dsn string, statements ...string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("postgres: %.60s: %w", sql, err)
		}
	}
	return nil
}
