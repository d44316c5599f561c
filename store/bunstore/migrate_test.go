package bunstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/migrate"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// onBoth runs a test on a fresh database of each kind. open makes a further pool
// on the same database.
func onBoth(t *testing.T, test func(t *testing.T, open func() *bun.DB)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		file := memoryDir(t) + "/test.db"
		test(t, func() *bun.DB { return sqliteOpen(t, file+"?_txlock=immediate&_pragma=busy_timeout(10000)") })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.Database(t)
		test(t, func() *bun.DB { return postgresDB(t, dsn) })
	})
}

// relations are the names of all tables and indexes in the database, and what
// they are made of.
func relations(t *testing.T, db *bun.DB) map[string]string {
	t.Helper()
	text := `SELECT name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'`
	if db.Dialect().Name().String() == "pg" {
		text = `SELECT n.nspname || '.' || c.relname, coalesce(string_agg(a.attname || ' ' || a.atttypid::regtype, ',' ORDER BY a.attnum), '')
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
			WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') GROUP BY 1`
	}
	rows, err := db.QueryContext(t.Context(), text)
	require.NoError(t, err)
	defer rows.Close()
	found := make(map[string]string)
	for rows.Next() {
		var name, made string
		require.NoError(t, rows.Scan(&name, &made))
		found[name] = made
	}
	require.NoError(t, rows.Err())
	return found
}

// without returns the relations whose names do not contain a word.
func without(all map[string]string, word string) map[string]string {
	rest := make(map[string]string)
	for name, made := range all {
		if !strings.Contains(name, word) {
			rest[name] = made
		}
	}
	return rest
}

func storeTrigger(t *testing.T, s *bunstore.Store) webtrigger.Run {
	t.Helper()
	accepted, err := s.CreateTrigger(t.Context(), newTrigger())
	require.NoError(t, err)
	return accepted.Run
}

func TestMigrateAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		s := migrated(t, db, nil)
		run := storeTrigger(t, s)
		before := relations(t, db)
		require.NoError(t, s.Migrate(t.Context()))
		require.Equal(t, before, relations(t, db))
		_, err := s.RunByID(t.Context(), run.ID)
		require.NoError(t, err)
	})
}

// Replicas that start at once migrate once, all of them succeed.
func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		migrateTogether(t, 8, open)
		var applied int
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) - count(DISTINCT name) FROM webtrigger_migrations`).Scan(&applied))
		require.Zero(t, applied, "applied twice")
	})
}

// So do those that share two connections of a pooler.
func TestMigrateThroughPgBouncer(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	bouncer := server.PgBouncer(t, &pgtest.BouncerOptions{PoolSize: 2})
	name := server.Database(t)
	migrateTogether(t, 4, func() *bun.DB { return postgresDB(t, bouncer.DSN(name)) })
}

func migrateTogether(t *testing.T, replicas int, open func() *bun.DB) {
	t.Helper()
	errs := make([]error, replicas)
	var done sync.WaitGroup
	for i := range replicas {
		s := opened(t, open(), &bunstore.Options{NoPreparedStatements: true})
		done.Go(func() {
			errs[i] = s.Migrate(t.Context())
			if errs[i] == nil {
				_, errs[i] = s.CreateTrigger(t.Context(), newTrigger())
			}
		})
	}
	done.Wait()
	require.NoError(t, errors.Join(errs...))
}

// A host that uses bun/migrate itself, with tables of the same words, keeps all
// of it through up and down; two stores with prefixes of their own do not meet.
func TestMigrateBesideTheHost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		hosts := migrate.NewMigrations()
		hosts.Add(migrate.Migration{Name: "20200101000001", Comment: "hosts", Up: func(ctx context.Context, _ *migrate.Migrator, _ *migrate.Migration) error {
			_, err := db.ExecContext(ctx, `CREATE TABLE runs (id integer PRIMARY KEY, host text)`)
			return err
		}, Down: func(ctx context.Context, _ *migrate.Migrator, _ *migrate.Migration) error {
			_, err := db.ExecContext(ctx, `DROP TABLE runs`)
			return err
		}})
		host := migrate.NewMigrator(db, hosts)
		require.NoError(t, host.Init(ctx))
		_, err := host.Migrate(ctx)
		require.NoError(t, err)
		before := relations(t, db)

		one, two := opened(t, db, nil), opened(t, db, &bunstore.Options{TablePrefix: "other_"})
		require.NoError(t, one.Migrate(ctx))
		require.NoError(t, two.Migrate(ctx))
		run := storeTrigger(t, two)
		_, err = one.RunByID(ctx, run.ID)
		require.ErrorIs(t, err, webtrigger.ErrNotFound)
		require.Equal(t, before, without(without(relations(t, db), "webtrigger_"), "other_"))

		require.NoError(t, one.Rollback(ctx))
		_, err = two.RunByID(ctx, run.ID)
		require.NoError(t, err)
		left := relations(t, db)
		require.NotContains(t, left, "webtrigger_runs")
		require.NotContains(t, left, "public.webtrigger_runs")
		require.Equal(t, before, without(without(left, "webtrigger_"), "other_"))
		applied, err := host.AppliedMigrations(ctx)
		require.NoError(t, err)
		require.Len(t, applied, 1)

		require.NoError(t, one.Migrate(ctx)) // up again, empty
		storeTrigger(t, one)
	})
}

// All tables lie in the schema that the host has chosen.
func TestSchema(t *testing.T) {
	t.Parallel()
	db := postgresDB(t, pgtest.Database(t))
	s := migrated(t, db, &bunstore.Options{Schema: "triggers", TablePrefix: "wt_"})
	storeTrigger(t, s)
	found := relations(t, db)
	require.Empty(t, without(found, "triggers."))
	require.Contains(t, found, "triggers.wt_runs")
	require.Contains(t, found, "triggers.wt_migrations")
	require.NoError(t, s.Rollback(t.Context()))
	require.NotContains(t, relations(t, db), "triggers.wt_runs")
}
