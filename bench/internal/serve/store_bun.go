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

func openPostgres(ctx context.Context, dsn string) (webtrigger.Store, error) {
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn)))
	db.SetMaxOpenConns(poolSize)
	db.SetMaxIdleConns(poolSize)
	return openBun(ctx, bun.NewDB(db, pgdialect.New()))
}

func openSQLite(ctx context.Context, file string) (webtrigger.Store, error) {
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		return nil, err
	}
	return openBun(ctx, bun.NewDB(db, sqlitedialect.New()))
}

func openBun(ctx context.Context, db *bun.DB) (webtrigger.Store, error) {
	store, err := bunstore.New(db, nil)
	if err != nil {
		return nil, err
	}
	return store, store.Migrate(ctx)
}
