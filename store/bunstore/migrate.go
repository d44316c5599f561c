package bunstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"sync"
	"time"

	"github.com/uptrace/bun/migrate"
)

//go:embed migrations
var migrationFiles embed.FS

// Migrate brings the tables to the version of this package. What is applied
// already is left alone; any number of processes may call it at once. On Postgres
// it needs two connections of the pool.
func (s *Store) Migrate(ctx context.Context) error {
	return s.migrating(ctx, func(m *migrate.Migrator) error {
		_, err := m.Migrate(ctx)
		return err
	})
}

// Rollback undoes what the last Migrate that did anything has applied. Going
// below the first version drops the tables with all that is in them.
func (s *Store) Rollback(ctx context.Context) error {
	return s.migrating(ctx, func(m *migrate.Migrator) error {
		_, err := m.Rollback(ctx)
		return err
	})
}

// migrating does something with the migrations while nobody else does.
func (s *Store) migrating(ctx context.Context, do func(m *migrate.Migrator) error) error {
	unlock, err := s.lockMigrations(ctx)
	if err != nil {
		return s.wrap("lock migrations", err)
	}
	defer unlock()
	m, err := s.migrator(ctx)
	if err == nil {
		err = do(m)
	}
	if err != nil {
		return fmt.Errorf("bunstore: migrate: %w", err)
	}
	return nil
}

// migrator returns the migrator of this dialect's migrations, whose own tables
// stand.
func (s *Store) migrator(ctx context.Context) (*migrate.Migrator, error) {
	folder := "migrations/sqlite"
	if s.postgres {
		folder = "migrations/postgres"
	}
	files, err := fs.Sub(migrationFiles, folder)
	if err != nil {
		return nil, err
	}
	migrations := migrate.NewMigrations()
	if err := migrations.Discover(files); err != nil {
		return nil, err
	}
	if s.opts.Schema != "" {
		if _, err := s.db.DB.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+s.opts.Schema); err != nil {
			return nil, err
		}
	}
	m := migrate.NewMigrator(s.db, migrations,
		migrate.WithTableName(s.tablePrefix()+"migrations"),
		migrate.WithLocksTableName(s.tablePrefix()+"migration_locks"), // stays empty: see lockMigrations
		migrate.WithMarkAppliedOnSuccess(true),
		migrate.WithTemplateData(struct{ Prefix, Index string }{s.tablePrefix(), s.opts.TablePrefix}),
	)
	return m, m.Init(ctx)
}

// lockMigrations waits until no other migration of these tables is under way.
// The migrator's own lock is a row that outlives a process which dies; on Postgres
// an advisory lock ends with its transaction. An SQLite file belongs to one
// process, where a mutex does.
func (s *Store) lockMigrations(ctx context.Context) (unlock func(), _ error) {
	if !s.postgres {
		sqliteMigrations.Lock()
		return sqliteMigrations.Unlock, nil
	}
	if s.db.DB.Stats().MaxOpenConnections == 1 {
		return nil, errors.New("a migration needs two connections: raise MaxOpenConns")
	}
	name := fnv.New64a()
	_, _ = name.Write([]byte(s.tablePrefix()))
	for {
		lock, err := s.db.DB.BeginTx(ctx, nil)
		if err != nil {
			return nil, err
		}
		var locked bool
		err = lock.QueryRowContext(ctx, `SELECT pg_try_advisory_xact_lock($1)`, int64(name.Sum64())).Scan(&locked)
		if locked {
			return func() { _ = lock.Rollback() }, nil
		}
		if err := errors.Join(err, lock.Rollback()); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPause):
		}
	}
}

// lockPause is how long a migration that another one is in the way of gives its
// connection back. Who waits inside a statement would keep one of a pooler's few,
// of which the other migration needs a second.
const lockPause = 50 * time.Millisecond

var sqliteMigrations sync.Mutex
