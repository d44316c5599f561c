package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/driver/pgdriver"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// database is where this server keeps everything: what the flag -db says.
type database struct {
	name string // for people; a password is not in it
	open func() (*bun.DB, error)
}

// parseDatabase reads a value of the flag -db. It repeats none of a DSN in an
// error.
func parseDatabase(value string) (database, error) {
	scheme, rest, _ := strings.Cut(value, ":")
	switch {
	case value == "memory":
		return database{name: "memory: everything is gone when this server ends"}, nil
	case scheme == "sqlite" && rest != "":
		return database{"the SQLite file " + rest, func() (*bun.DB, error) { return openSQLite(rest) }}, nil
	case scheme == "postgres" || scheme == "postgresql":
		return parsePostgres(value)
	}
	return database{}, errors.New("-db: neither memory nor sqlite:FILE nor postgres://…")
}

// poolSize suits a server that executes 16 runs at a time: calls that arrive
// together share a connection.
const poolSize = 16

func parsePostgres(dsn string) (_ database, err error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return database{}, errors.New("-db: the postgres URL cannot be read; a password needs percent signs for /, ?, # and %")
	}
	defer func() {
		if recover() != nil { // the driver's way to refuse a DSN
			err = errors.New("-db: the driver refuses the postgres URL; sslmode and the files that it names may be wrong")
		}
	}()
	connector := pgdriver.NewConnector(pgdriver.WithDSN(dsn), pgdriver.WithApplicationName("webtrigger"))
	name := fmt.Sprintf("the Postgres database %s at %s", strings.TrimPrefix(u.Path, "/"), connector.Config().Addr)
	return database{name, func() (*bun.DB, error) {
		db := sql.OpenDB(connector)
		db.SetMaxOpenConns(poolSize)
		db.SetMaxIdleConns(poolSize)
		return bun.NewDB(db, pgdialect.New()), nil
	}}, nil
}

// openSQLite opens a file, which is made for its owner alone: conversations are
// in it.
func openSQLite(file string) (*bun.DB, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	made, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := made.Close(); err != nil {
		return nil, err
	}
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(path)}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	return bun.NewDB(db, sqlitedialect.New()), nil
}

// openStore opens the store and brings its tables up to date. Several servers
// may do so at once.
func openStore(ctx context.Context, where database, log *slog.Logger) (_ webtrigger.Store, closed func() error, err error) {
	if where.open == nil {
		return memstore.New(nil), func() error { return nil }, nil
	}
	db, err := where.open()
	if err != nil {
		return nil, nil, fmt.Errorf("-db: %w", err)
	}
	store, err := bunstore.New(db, &bunstore.Options{Logger: log})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	closed = func() error { return errors.Join(store.Close(), db.Close()) }
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := store.Migrate(ctx); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("-db: %w", err), closed())
	}
	return store, closed, nil
}
