package bunstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/driver/pgdriver"
	_ "modernc.org/sqlite"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// A store on PostgreSQL. Migrate creates or upgrades its tables and is safe to call
// at every start, by several processes at once.
func ExampleNew() {
	connector := pgdriver.NewConnector(pgdriver.WithDSN(os.Getenv("DATABASE_URL")))
	store, err := bunstore.New(bun.NewDB(sql.OpenDB(connector), pgdialect.New()), nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// A trigger in the transaction of a host: the order and the run are stored together,
// or neither is.
func ExampleStore_Tx() {
	dir, err := os.MkdirTemp("", "webtrigger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sqldb, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "app.db"))
	if err != nil {
		log.Fatal(err)
	}
	db := bun.NewDB(sqldb, sqlitedialect.New())
	defer db.Close()
	store, err := bunstore.New(db, nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	svc, err := webtrigger.New(store, nil, &webtrigger.Options{BaseURL: "https://app.example.com", NoWorkers: true})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "orders", Enabled: true}); err != nil {
		log.Fatal(err)
	}

	soldOut := errors.New("sold out")
	for _, failure := range []error{nil, soldOut} {
		err := db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			// Store the order with tx here.
			_, err := svc.TriggerVia(ctx, store.Tx(tx), "orders", webtrigger.TriggerRequest{Message: "Confirm the order."})
			return errors.Join(err, failure)
		})
		fmt.Println("transaction:", err)
	}
	runs, err := svc.Runs(ctx, webtrigger.RunQuery{AssistantID: "orders"})
	fmt.Println("runs:", len(runs), err)
	// Output:
	// transaction: <nil>
	// transaction: sold out
	// runs: 1 <nil>
}
