package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// BouncerOptions are the settings of a PgBouncer. Nil and the zero value are a strict
// pooler: few connections, no prepared statements.
type BouncerOptions struct {
	// PoolSize is the number of connections to the server, for each pair of a
	// database and a user. Zero means 4.
	PoolSize int

	// ServerPort is the port that leads to the server, such as that of a [Proxy].
	// Zero means the server's own.
	ServerPort int

	// PreparedStatements is how many named statements of the protocol
	// PgBouncer keeps for each connection to the server (its setting
	// max_prepared_statements, 1.21 and later). Zero means none: a client's
	// prepared statement may be unknown in its next transaction, as it was in
	// every version before.
	PreparedStatements int

	// Settings are lines of the section [pgbouncer], by name. They win over
	// what the package sets itself.
	Settings map[string]string
}

// PgBouncer is a connection pooler in transaction mode: a client has a
// connection to the server for the length of a transaction, and the session's
// state does not follow it.
type PgBouncer struct {
	bin     string // directory of psql
	daemon  *daemon
	port    int
	stopped atomic.Bool
}

// StartPgBouncer starts a pooler in front of a server and returns once it
// accepts connections. Every role of the server may connect, without a
// password. The error is [ErrNotInstalled] if PgBouncer is missing. Stop the
// pooler when done.
func StartPgBouncer(server *Server, opts *BouncerOptions) (*PgBouncer, error) {
	if opts == nil {
		opts = &BouncerOptions{}
	}
	program, err := findPgBouncer()
	if err != nil {
		return nil, err
	}
	settings, err := bouncerSettings(program, opts)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	d, err := newDaemon("webtrigger-pgbouncer-", "KILL", true) // it has nothing to put in order
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	b := &PgBouncer{bin: server.bin, daemon: d}
	for range 5 { // as in Server.init
		if err = b.start(program, cmp.Or(opts.ServerPort, server.port), settings); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("pgtest: starting PgBouncer: %w\n%s", err, d.logTail())
		d.close()
		return nil, err
	}
	return b, nil
}

// PgBouncer starts a pooler in front of the server for the length of a test,
// which is skipped, or fails, as by [Shared] if PgBouncer is not installed.
func (s *Server) PgBouncer(tb testing.TB, opts *BouncerOptions) *PgBouncer {
	tb.Helper()
	b, err := StartPgBouncer(s, opts)
	require(tb, err)
	tb.Cleanup(b.Stop)
	return b
}

// DSN returns the URL of a database of the server by way of the pooler. The
// database "pgbouncer" is the pooler's own console: SHOW POOLS, PAUSE, KILL.
func (b *PgBouncer) DSN(database string) string { return dsn(b.port, database) }

// Port returns the TCP port on 127.0.0.1.
func (b *PgBouncer) Port() int { return b.port }

// Psql is [Server.Psql] by way of the pooler.
func (b *PgBouncer) Psql(database, sql string) (string, error) {
	return psql(b.bin, b.DSN(database), sql)
}

// LogTail returns the last 8 KiB of the pooler's log, as whole lines.
func (b *PgBouncer) LogTail() string { return b.daemon.logTail() }

// Stop ends the pooler at once, and with it the connections through it. A
// second call does nothing.
func (b *PgBouncer) Stop() {
	if !b.stopped.Swap(true) {
		b.daemon.close()
	}
}

// start starts the program on a free port.
func (b *PgBouncer) start(program string, serverPort int, settings string) (err error) {
	if b.port, err = freePort(); err != nil {
		return err
	}
	// Trust applies to known roles: this one, and those it finds on the server.
	users := filepath.Join(b.daemon.dir, "users")
	if err := writeFile(users, `"`+Superuser+"\" \"\"\n"); err != nil {
		return err
	}
	ini := filepath.Join(b.daemon.dir, "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n* = host=127.0.0.1 port=%d\n[pgbouncer]\nlisten_port = %d\nauth_file = %s\n%s",
		serverPort, b.port, users, settings)
	if err := writeFile(ini, text); err != nil {
		return err
	}
	logged := b.daemon.logSize()
	if err := b.daemon.start(program, ini); err != nil {
		return err
	}
	err = b.daemon.waitFor(func() bool { return strings.Contains(b.daemon.logFrom(logged), "process up") })
	if errors.Is(err, errEnded) && strings.Contains(b.daemon.logFrom(logged), "Address already in use") {
		return errPortTaken
	}
	return err
}

// bouncerSettings returns the lines of the section [pgbouncer].
func bouncerSettings(program string, opts *BouncerOptions) (string, error) {
	poolSize := opts.PoolSize
	if poolSize == 0 {
		poolSize = 4
	}
	settings := map[string]string{
		"listen_addr":               "127.0.0.1",
		"unix_socket_dir":           "",
		"pool_mode":                 "transaction",
		"default_pool_size":         strconv.Itoa(poolSize),
		"max_client_conn":           "1000",
		"auth_type":                 "trust",
		"auth_user":                 Superuser,
		"admin_users":               Superuser,
		"ignore_startup_parameters": "extra_float_digits", // what the manual names, for JDBC and lib/pq
		"server_login_retry":        "0.1",                // s; 15 s would be a long test of a restart
	}
	recent, err := preparesStatements(program)
	switch {
	case err != nil:
		return "", err
	case recent: // since 1.24 the default is not 0
		settings["max_prepared_statements"] = strconv.Itoa(opts.PreparedStatements)
	case opts.PreparedStatements != 0:
		return "", errors.New("PreparedStatements needs PgBouncer 1.21, which is newer than " + program)
	}
	maps.Copy(settings, opts.Settings)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = %s\n", name, settings[name])
	}
	return text.String(), nil
}

var bouncerVersion = regexp.MustCompile(`PgBouncer (\d+)\.(\d+)`)

// preparesStatements reports whether the program has the setting
// max_prepared_statements.
func preparesStatements(program string) (bool, error) {
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return false, fmt.Errorf("%s --version: %w", program, err)
	}
	match := bouncerVersion.FindStringSubmatch(string(out))
	if match == nil {
		return false, fmt.Errorf("%s --version printed %q", program, out)
	}
	major, _ := strconv.Atoi(match[1])
	minor, _ := strconv.Atoi(match[2])
	return major > 1 || minor >= 21, nil
}
