package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Migrate brings the tables to the version of this package. It skips what is applied
// already. Any number of processes may call it at once, also while others serve
// requests: on Postgres a migration waits at most 2 s for a lock, then lets the others
// go first and tries again until ctx ends. It needs two connections of the pool there.
//
// Migrate returns an error if a setting of the server, the database or the role
// breaks a guarantee of the store. The error names the setting and the remedy.
func (s *Store) Migrate(ctx context.Context) error {
	return s.migrating(ctx, func(m *migrator) error { return m.up() })
}

// Rollback undoes what the last Migrate that did anything has applied. Going
// below the first version drops the tables with all that is in them. Going below
// 20261129000001_core deletes all runs with what belongs to them.
func (s *Store) Rollback(ctx context.Context) error {
	return s.migrating(ctx, func(m *migrator) error { return m.down() })
}

// migrating calls do with the migrations while no other call uses them.
func (s *Store) migrating(ctx context.Context, do func(m *migrator) error) error {
	defer s.schema.reset()
	list, err := s.migrations()
	if err != nil {
		return fmt.Errorf("bunstore: migrate: %w", err)
	}
	m := &migrator{store: s, ctx: ctx, list: list}
	if !s.postgres {
		return s.wrap("migrate", s.migratingSQLite(m, do))
	}
	return s.wrap("migrate", s.lockMigrations(ctx, func() error {
		return s.lender.lend(ctx, func(l *lent) error {
			m.conn = l.Conn.Conn
			stop := keepReading(ctx, l)
			defer stop()
			if err := rejectedSettings(ctx, m.conn); err != nil {
				return err
			}
			return do(m)
		})
	}))
}

func (s *Store) migratingSQLite(m *migrator, do func(m *migrator) error) (err error) {
	sqliteMigrations.Lock()
	defer sqliteMigrations.Unlock()
	if m.conn, err = s.db.DB.Conn(m.ctx); err != nil {
		return err
	}
	defer m.conn.Close()
	return do(m)
}

// sqliteMigrations is enough of a lock: an SQLite file belongs to one process.
var sqliteMigrations sync.Mutex

// migrator applies migrations on a connection of its own.
type migrator struct {
	store *Store
	ctx   context.Context
	conn  *sql.Conn
	list  []migration
}

// up applies what is not applied yet, as one group.
func (m *migrator) up() error {
	if err := m.init(); err != nil {
		return err
	}
	applied, group, err := m.applied()
	if err != nil {
		return err
	}
	for _, step := range m.list {
		if applied[step.name] == 0 {
			mark := fmt.Sprintf(`INSERT INTO %smigrations (name, group_id) VALUES ('%s', %d)`, m.store.tablePrefix(), step.name, group+1)
			if err := m.run(step.up, mark); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
		}
	}
	return nil
}

// down undoes the last group, the last migration first.
func (m *migrator) down() error {
	if err := m.init(); err != nil {
		return err
	}
	applied, group, err := m.applied()
	if err != nil {
		return err
	}
	for i := len(m.list) - 1; i >= 0; i-- {
		if step := m.list[i]; group > 0 && applied[step.name] == group {
			mark := fmt.Sprintf(`DELETE FROM %smigrations WHERE name = '%s'`, m.store.tablePrefix(), step.name)
			if err := m.run(step.down, mark); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
		}
	}
	return nil
}

// init creates the schema and the table of applied migrations, unless they exist. So a
// role without the right to create can call Migrate if no migration is left.
func (m *migrator) init() error {
	s := m.store
	if !s.postgres {
		return m.exec(`CREATE TABLE IF NOT EXISTS ` + s.tablePrefix() + `migrations (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
			name VARCHAR, group_id INTEGER, migrated_at TIMESTAMP NOT NULL DEFAULT current_timestamp)`)
	}
	var schema, table bool
	err := queryOne(m.ctx, m.conn, fmt.Sprintf(`SELECT '%s' = '' OR to_regnamespace('%[1]s') IS NOT NULL, to_regclass('%s') IS NOT NULL`,
		s.opts.Schema, s.tablePrefix()+"migrations"), &schema, &table)
	if err == nil && !schema {
		err = m.exec(`CREATE SCHEMA IF NOT EXISTS ` + s.opts.Schema)
	}
	if err == nil && !table {
		err = m.exec(`CREATE TABLE IF NOT EXISTS ` + s.tablePrefix() + `migrations (id bigserial PRIMARY KEY,
			name varchar, group_id bigint, migrated_at timestamptz NOT NULL DEFAULT current_timestamp)`)
	}
	return err
}

// applied returns the group of each applied migration, and the last group.
func (m *migrator) applied() (groups map[string]int64, last int64, _ error) {
	rows, err := m.conn.QueryContext(m.ctx, `SELECT name, group_id FROM `+m.store.tablePrefix()+`migrations`)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	groups = make(map[string]int64)
	for rows.Next() {
		var name string
		var group int64
		if err := rows.Scan(&name, &group); err != nil {
			return nil, 0, err
		}
		groups[name], last = group, max(last, group)
	}
	return groups, last, rows.Err()
}

// run runs a script and records it with mark: in one transaction, or, where a
// statement cannot be in one, after it.
func (m *migrator) run(sc script, mark string) error {
	if sc.inTx {
		return m.transact(append(sc.statements, mark))
	}
	if m.store.postgres {
		// CREATE INDEX CONCURRENTLY waits for old transactions and does not block others meanwhile.
		if err := m.exec(`SET statement_timeout = 0; SET lock_timeout = 0`); err != nil {
			return err
		}
		defer m.exec(`RESET statement_timeout; RESET lock_timeout`)
	}
	for _, text := range sc.statements {
		if err := m.exec(text); err != nil {
			return err
		}
	}
	return m.transact([]string{mark})
}

// The wait of a migration for a lock, in which every other statement on the table
// queues up behind it, and the pause before it tries again.
const (
	migrationLockTimeout = `2s`
	migrationPause       = 2 * time.Second
)

// transact runs statements in a transaction. It tries again where others are in the
// way, until the context ends.
func (m *migrator) transact(statements []string) error {
	if !m.store.postgres {
		return retryBusy(m.ctx, func() error { return m.tryTransact(`BEGIN IMMEDIATE`, statements) })
	}
	begin := `BEGIN; SET LOCAL lock_timeout = '` + migrationLockTimeout + `'; SET LOCAL statement_timeout = 0; ` +
		`SET LOCAL idle_in_transaction_session_timeout = '` + m.store.idleLimit() + `'`
	for {
		err := m.tryTransact(begin, statements)
		if !retryable(err) && !lockTimedOut(err) {
			return err
		}
		m.store.log.WarnContext(m.ctx, "migration waits for other transactions", "error", err)
		select {
		case <-m.ctx.Done():
			return errors.Join(m.ctx.Err(), err)
		case <-time.After(migrationPause/2 + rand.N(migrationPause)):
		}
	}
}

func (m *migrator) tryTransact(begin string, statements []string) error {
	if err := m.exec(begin); err != nil {
		return err
	}
	for _, text := range append(statements, `COMMIT`) {
		if err := m.exec(text); err != nil {
			_, rollback := m.conn.ExecContext(context.WithoutCancel(m.ctx), `ROLLBACK`)
			if rollback != nil && sqlState(err) != "" { // the connection is lost
				return fmt.Errorf("%v: %w", err, rollback)
			}
			return err
		}
	}
	return nil
}

func (m *migrator) exec(text string) error {
	_, err := m.conn.ExecContext(m.ctx, text)
	return err
}

// lockMigrations calls do while no other migration of these tables runs. The advisory lock ends with its transaction, and so with its process.
func (s *Store) lockMigrations(ctx context.Context, do func() error) error {
	if s.db.DB.Stats().MaxOpenConnections == 1 {
		return fmt.Errorf("%w: a migration needs two connections: raise MaxOpenConns", webtrigger.ErrUnavailable)
	}
	for {
		done := false
		err := s.lender.lend(ctx, func(l *lent) (err error) {
			done, err = s.tryLockMigrations(ctx, l, do)
			return err
		})
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPause):
		}
	}
}

// tryLockMigrations reports whether it had the lock.
func (s *Store) tryLockMigrations(ctx context.Context, l *lent, do func() error) (locked bool, err error) {
	name := fnv.New64a()
	_, _ = name.Write([]byte(s.tablePrefix()))
	if _, err := l.Conn.Conn.ExecContext(ctx, `BEGIN ISOLATION LEVEL READ COMMITTED`); err != nil {
		return false, err
	}
	defer func() {
		if _, failed := l.Conn.Conn.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`); failed != nil {
			l.broken = true
		}
	}()
	err = queryOne(ctx, l.Conn.Conn, fmt.Sprintf(`SELECT pg_try_advisory_xact_lock(%d)`, int64(name.Sum64())), &locked)
	if err == nil && locked {
		// With pgx, the query leaves a portal with a snapshot, for which CREATE INDEX
		// CONCURRENTLY would wait. The next statement closes the portal.
		_, err = l.Conn.Conn.ExecContext(ctx, `SET LOCAL idle_in_transaction_session_timeout = 0`)
	}
	if err == nil && locked {
		err = do()
		l.settled = true // that error is of another connection
	}
	return locked, err
}

// lockPause is how long a migration that another one is in the way of gives its
// connection back. A wait inside a statement would keep one of a pooler's few
// connections, of which the other migration needs a second.
const lockPause = 50 * time.Millisecond
