package serve

import (
	"context"
	"database/sql"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/driver/pgdriver"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

func openPostgres(ctx context.Context, c Config) (webtrigger.Store, error) {
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(c.DSN)))
	db.SetMaxOpenConns(poolSize)
	db.SetMaxIdleConns(poolSize)
	opts := bunstore.Options{NoNotify: c.Without == Notifications, NoPreparedStatements: c.Without == Prepared}
	if c.Without == Batches {
		opts.MaxBatch = 1
	}
	store, err := openBun(ctx, bun.NewDB(db, pgdialect.New()), &opts)
	if c.Without == Take {
		store = declining{store}
	}
	return store, err
}

// declining is a store that takes no run as it is accepted, as a store may.
type declining struct{ webtrigger.Store }

func (d declining) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	t.Claim = nil
	return d.Store.CreateTrigger(ctx, t)
}

func openSQLite(ctx context.Context, file string) (webtrigger.Store, error) {
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		return nil, err
	}
	return openBun(ctx, bun.NewDB(db, sqlitedialect.New()), nil)
}

func openBun(ctx context.Context, db *bun.DB, opts *bunstore.Options) (webtrigger.Store, error) {
	store, err := bunstore.New(db, opts)
	if err != nil {
		return nil, err
	}
	return store, store.Migrate(ctx)
}
