package schemas

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// Database returns the DSN of a database on the shared server, for the length of a test:
// it has the tables of a store without options. It is a copy of one that
// was migrated once, which takes a tenth of the time of all migrations.
func Database(tb testing.TB) (dsn string) {
	tb.Helper()
	return pgtest.Shared(tb).DSN(Name(tb))
}

// Name is Database that returns the database's name.
func Name(tb testing.TB) string {
	tb.Helper()
	return tables.copy(tb, "")
}

// ForRules is Name of a database for [Stores]: as many schemas have tables as storetest
// needs at a time.
func ForRules(tb testing.TB) (name string) {
	tb.Helper()
	var names []string
	for n := range 6 {
		names = append(names, schemaName(n+1))
	}
	return rules.copy(tb, names...)
}

var tables, rules template

// template is a database on the shared server that others are copies of.
type template struct {
	mu     sync.Mutex
	server *pgtest.Server
	name   string
}

// copy copies the database for the length of a test. The first call makes the tables, in
// schemas; "": the default one.
func (t *template) copy(tb testing.TB, schemas ...string) (name string) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if server := pgtest.Shared(tb); t.server != server {
		name, err := server.CreateDatabase("tables")
		if err == nil {
			err = migrate(tb.Context(), server.DSN(name), schemas)
		}
		if err != nil {
			tb.Fatal(err)
		}
		t.server, t.name = server, name
	}
	return t.server.Copy(tb, t.name)
}

func migrate(ctx context.Context, dsn string, schemas []string) error {
	db := bun.NewDB(sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn))), pgdialect.New())
	defer db.Close()
	for _, schema := range schemas {
		store, err := bunstore.New(db, &bunstore.Options{Schema: schema})
		if err == nil {
			err = errors.Join(store.Migrate(ctx), store.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}
