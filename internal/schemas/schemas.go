// Package schemas makes many stores on one Postgres database, for tests that need
// a store for each of a thousand rules.
package schemas

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// Stores returns a function that makes stores on a pool, each in a schema that is
// its own and empty. Making the tables takes most of a rule's time, so a schema is
// emptied and used again when the test that had it is over. The tables are made
// and emptied through direct, which may be the pool itself.
func Stores(direct, pool *bun.DB, opts *bunstore.Options) func(t *testing.T) webtrigger.Store {
	all := &schemas{db: direct}
	if opts != nil {
		all.opts = *opts
	}
	return func(t *testing.T) webtrigger.Store {
		t.Helper()
		own := all.opts
		own.Schema = all.take(t)
		t.Cleanup(func() { all.put(t, own.Schema) })
		store, err := bunstore.New(pool, &own)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) }) // before the schema goes back
		return store
	}
}

type schemas struct {
	db   *bun.DB
	opts bunstore.Options

	mu    sync.Mutex
	free  []string
	made  int
	empty string // the statements that empty a schema, whose name is %[1]s
}

// take returns an empty schema that no other test uses.
func (s *schemas) take(t *testing.T) string {
	t.Helper()
	s.mu.Lock()
	if last := len(s.free) - 1; last >= 0 {
		defer s.mu.Unlock()
		name := s.free[last]
		s.free = s.free[:last]
		return name
	}
	s.made++
	own := s.opts
	own.Schema = schemaName(s.made)
	s.mu.Unlock()

	store, err := bunstore.New(s.db, &own)
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	require.NoError(t, store.Close())
	var empty string // TRUNCATE would take ten times as long
	require.NoError(t, s.db.NewRaw(`SELECT string_agg('DELETE FROM %[1]s.' || tablename, '; ') FROM pg_tables
		WHERE schemaname = ? AND tablename NOT LIKE '%migration%'`, own.Schema).Scan(t.Context(), &empty))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.empty = empty
	return own.Schema
}

func schemaName(n int) string { return fmt.Sprintf("rule_%d", n) }

// put empties a schema and makes it available to other tests.
func (s *schemas) put(t *testing.T, name string) {
	t.Helper()
	s.mu.Lock()
	text := fmt.Sprintf(s.empty, name)
	s.mu.Unlock()
	_, err := s.db.DB.ExecContext(context.WithoutCancel(t.Context()), text)
	require.NoError(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, name)
}
