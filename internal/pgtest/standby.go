package pgtest

import (
	"fmt"
	"path/filepath"
	"time"
)

// StartStandby starts a streaming replica of a server and returns once the replica
// accepts reads. It connects to the server through the given port, which is that of
// the server or of a [Proxy]. The name is its application_name: name it in
// synchronous_standby_names, and commits wait for it. The replica has the settings
// that the server has now. Stop the replica when done.
func StartStandby(primary *Server, name string, port int) (*Server, error) {
	program := filepath.Join(primary.bin, "pg_basebackup")
	if !isProgram(program) {
		return nil, fmt.Errorf("pg_basebackup of PostgreSQL %w", ErrNotInstalled)
	}
	d, err := newDaemon("webtrigger-pg-", "QUIT", !primary.durable)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	s := &Server{bin: primary.bin, daemon: d, version: primary.version, durable: primary.durable}
	s.names.Store(primary.names.Load())
	err = d.run(program, "--pgdata="+s.data(), "--wal-method=stream", "--checkpoint=fast", "--no-sync", "--write-recovery-conf",
		fmt.Sprintf("--dbname=host=127.0.0.1 port=%d user=%s application_name=%s", port, Superuser, name))
	if err == nil {
		// By default, a replica waits 5 s before it connects again.
		err = appendFile(filepath.Join(s.data(), "postgresql.conf"), "wal_retrieve_retry_interval = '100ms'\n")
	}
	if err == nil {
		err = s.firstUp()
	}
	if err != nil {
		err = fmt.Errorf("pgtest: standby: %w\n%s", err, d.logTail())
		d.close()
		return nil, err
	}
	return s, nil
}

// Promote makes a standby a server that accepts writes, and returns when it does.
func (s *Server) Promote() error {
	done, err := s.Psql("postgres", fmt.Sprintf(`SELECT pg_promote(true, %d)`, startTimeout/time.Second))
	if err == nil && done != "t" {
		err = fmt.Errorf("pgtest: the standby was not promoted within %v", startTimeout)
	}
	return err
}

// AwaitReplay returns when a standby has everything that its primary has now.
func (s *Server) AwaitReplay(primary *Server) error {
	// The commit has the log written: that of asynchronous commits may wait for seconds.
	at, err := primary.Psql("postgres", `SET synchronous_commit = local; DO 'BEGIN PERFORM txid_current(); END'; SELECT pg_current_wal_flush_lsn()`)
	if err != nil {
		return err
	}
	return s.await(`SELECT pg_last_wal_replay_lsn() >= '` + at + `'`)
}

// AwaitSynchronous returns when commits wait for the standby of that name.
func (s *Server) AwaitSynchronous(name string) error {
	return s.await(`SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = '` + name + `' AND sync_state = 'sync')`)
}

// Set changes a setting of the whole server, as ALTER SYSTEM does, and returns when
// new sessions have it.
func (s *Server) Set(name, value string) error {
	if _, err := s.Psql("postgres", `ALTER SYSTEM SET `+name+` = '`+value+`'; SELECT pg_reload_conf()`); err != nil {
		return err
	}
	return s.await(`SELECT current_setting('` + name + `') = '` + value + `'`)
}

// await polls until a query returns true.
func (s *Server) await(sql string) error {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		answer, err := s.Psql("postgres", sql)
		if err != nil || answer == "t" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("pgtest: not true within %v: %s", startTimeout, sql)
		}
	}
}
