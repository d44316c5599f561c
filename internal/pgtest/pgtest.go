// Package pgtest runs PostgreSQL servers of its own, and PgBouncer in front
// of them, for tests and benchmarks:
//
//	func TestStore(t *testing.T) {
//		pool := connect(pgtest.Database(t)) // an empty database for this test
//
// It drives the installed programs, PostgreSQL 13 or later, and links no
// driver. A server listens on 127.0.0.1 and on a socket inside its directory,
// and trusts everybody who gets there. It ends with the process that started
// it, even if that is killed. Where the programs are missing, tests are
// skipped, unless WEBTRIGGER_TEST_ALL is set (see [Shared]).
//
// In a testing/synctest bubble, where time is not real, a server cannot be
// started: call [Shared] and [Database] before it.
package pgtest

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Superuser is the role that every DSN names. It has no password.
const Superuser = "postgres"

// startTimeout bounds how long a program may take until it is ready. A server
// that replays much of its log after a crash takes longest.
const startTimeout = 60 * time.Second

// Options are the settings of a server. Nil and the zero value are a server for tests:
// it is fast, and loses data if the machine crashes.
type Options struct {
	// Durable makes commits wait until they are on disk, as production does:
	// fsync, full_page_writes and synchronous_commit are on. The directory is
	// in TMPDIR, or in /tmp if that is not set or the account of the server
	// cannot use it. Where that is in memory, nothing is ever on disk.
	//
	// Without it all three are off, and even Restart(Immediate) may lose the
	// last commits. The directory is in memory where that is possible: on
	// Linux, if /dev/shm has 2 GiB free and TMPDIR is not set.
	Durable bool

	// Disk has the directory, instead of the places above. The caller must close it after
	// the server has stopped.
	Disk *Disk

	// Settings are lines of postgresql.conf, by name. They win over what the
	// package sets itself, which is max_connections 200, shared_buffers 64MB,
	// those of Durable, and without Durable max_wal_size 256MB. The port and the
	// addresses cannot be set.
	Settings map[string]string
}

// Server is a PostgreSQL server that this process started. Its methods may be
// called concurrently, except for Down, Up, Restart, Pause, Resume and Stop.
type Server struct {
	bin     string // directory of the programs
	daemon  *daemon
	session session // of the database postgres
	port    int
	version int // major
	durable bool
	names   atomic.Uint64 // databases created, for unique names
	stopped atomic.Bool
}

// Start initialises a server in a fresh directory and returns once it accepts
// connections, which takes about a second. The error is [ErrNotInstalled] if a
// program is missing. Stop the server when done.
func Start(opts *Options) (*Server, error) {
	if opts == nil {
		opts = &Options{}
	}
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	parent := ""
	if opts.Disk != nil {
		parent = opts.Disk.dir
	}
	d, err := newDaemonIn(parent, "webtrigger-pg-", "QUIT", !opts.Durable)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	s := &Server{bin: bin, daemon: d, durable: opts.Durable}
	if err := s.init(opts); err != nil {
		err = fmt.Errorf("pgtest: %w\n%s", err, d.logTail())
		d.close()
		return nil, err
	}
	return s, nil
}

// init fills the directory and starts the server.
func (s *Server) init(opts *Options) error {
	err := s.daemon.run(filepath.Join(s.bin, "initdb"), "--pgdata="+s.data(), "--username="+Superuser, "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return err
	}
	if err := s.configure(opts); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(s.data(), "PG_VERSION"))
	if err != nil {
		return err
	}
	if s.version, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return err
	}
	return s.firstUp()
}

// firstUp starts the server on a port that is free.
func (s *Server) firstUp() (err error) {
	for range 5 { // another process may take the port between the look and the start
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.Up(); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// configure appends to postgresql.conf, where the last line of a name wins.
func (s *Server) configure(opts *Options) error {
	durable := "off"
	if opts.Durable {
		durable = "on"
	}
	settings := map[string]string{
		"max_connections":    "200",
		"shared_buffers":     "64MB",
		"fsync":              durable,
		"full_page_writes":   durable,
		"synchronous_commit": durable,
	}
	if !opts.Durable {
		settings["max_wal_size"] = "256MB" // of memory, possibly
	}
	maps.Copy(settings, opts.Settings)
	var conf strings.Builder
	conf.WriteByte('\n')
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	return appendFile(filepath.Join(s.data(), "postgresql.conf"), conf.String())
}

// DSN returns the URL of a database on this server, over TCP and without TLS.
func (s *Server) DSN(database string) string { return dsn(s.port, database) }

// Port returns the TCP port on 127.0.0.1. It stays the same over restarts.
func (s *Server) Port() int { return s.port }

// SocketDir returns the directory of the Unix socket, for host= in a
// connection string. Only the user whom the server runs as may enter it, and
// root.
func (s *Server) SocketDir() string { return s.daemon.dir }

// Version returns the major version, such as 17.
func (s *Server) Version() int { return s.version }

// LogTail returns the last 8 KiB of the server's log, as whole lines.
func (s *Server) LogTail() string { return s.daemon.logTail() }

// Stop ends the server at once and removes its directory. A second call does
// nothing.
func (s *Server) Stop() {
	if !s.stopped.Swap(true) {
		s.session.close()
		s.daemon.close()
	}
}

func (s *Server) data() string { return filepath.Join(s.daemon.dir, "data") }

func dsn(port int, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(Superuser),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}
