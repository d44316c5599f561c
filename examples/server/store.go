package main

import (
	"context"
	"crypto/sha256"
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

// database is where this server stores everything: the value of the flag -db.
type database struct {
	name        string // for people, without the password
	open        func() (*bun.DB, error)
	credentials string // the file of the key and the console's password; "": none
}

// parseDatabase reads a value of the flag -db. No error contains a part of a DSN.
func parseDatabase(value string) (database, error) {
	scheme, rest, _ := strings.Cut(value, ":")
	switch {
	case value == "memory":
		return database{name: "memory: nothing is kept after this server ends"}, nil
	case scheme == "sqlite" && rest != "":
		return database{"the SQLite file " + rest, func() (*bun.DB, error) { return openSQLite(rest) }, rest + ".credentials"}, nil
	case scheme == "postgres" || scheme == "postgresql":
		return parsePostgres(value)
	}
	return database{}, errors.New("-db: must be memory, sqlite:FILE or postgres://…")
}

// poolSize suits a server with 16 concurrent runs: calls that arrive together share a
// connection.
const poolSize = 16

func parsePostgres(dsn string) (_ database, err error) {
	if _, err := url.Parse(dsn); err != nil {
		return database{}, errors.New("-db: malformed postgres URL: escape /, ?, # and % in the password with percent signs")
	}
	defer func() {
		if recover() != nil { // the driver panics at a wrong DSN
			err = errors.New("-db: the driver rejects the postgres URL: check sslmode and the files that it names")
		}
	}()
	connector := pgdriver.NewConnector(pgdriver.WithDSN(dsn), pgdriver.WithApplicationName("webtrigger"))
	config := connector.Config()
	name := fmt.Sprintf("the Postgres database %s at %s", config.Database, config.Addr)
	// A database on a server has no directory. The file is in the working directory, with
	// a name of its own for each database.
	digest := sha256.Sum256([]byte(config.Addr + "/" + config.Database))
	credentials := fmt.Sprintf("webtrigger-postgres-%x.credentials", digest[:6])
	return database{name, func() (*bun.DB, error) {
		db := sql.OpenDB(connector)
		db.SetMaxOpenConns(poolSize)
		db.SetMaxIdleConns(poolSize)
		return bun.NewDB(db, pgdialect.New()), nil
	}, credentials}, nil
}

// openSQLite opens a file. Only its owner may read it: it contains conversations.
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

// openStore opens the store and migrates its tables. Several servers may do so at the
// same time.
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
