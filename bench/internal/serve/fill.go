package serve

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

// serveProductStored is serveProduct with completed runs that are there from the
// start. The product stores the first of them itself; the others are copies.
func serveProductStored(ctx context.Context, c Config) (*child.Server, error) {
	if c.Rows > 0 {
		if err := storeRun(ctx, c); err != nil {
			return nil, err
		}
		if err := multiplyRun(ctx, c.DSN, c.Rows-1); err != nil {
			return nil, err
		}
	}
	return serveProduct(ctx, c)
}

// storeRun triggers a run and waits until it has completed.
func storeRun(ctx context.Context, c Config) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	counted := &ends{Store: store}
	c.Workers = 1
	svc, err := newService(ctx, counted, webtrigger.RunnerFunc(noop), c)
	if err != nil {
		return err
	}
	_, err = svc.Trigger(ctx, assistant, webtrigger.TriggerRequest{
		Message: "Summarise the latest sales report for the region and list the three largest changes since last week.",
		Subject: "Weekly Report", Context: []byte(`{"region": "APAC", "customer": "Acme Corp"}`), Metadata: []byte(`{"source": "zapier"}`),
	})
	if err != nil {
		return err
	}
	return counted.await(ctx, 1)
}

// copied are the tables that have rows of an ended run, and what differs between
// a row and its copies, whose run is rid.
var copied = []struct {
	table  string
	differ map[string]string // SQL by column
}{
	{"webtrigger_runs", map[string]string{"id": "rid", "run_key": earlierKey, "conversation_id": "rid"}},
	{"webtrigger_ends", map[string]string{"run_id": "rid"}},
	{"webtrigger_messages", map[string]string{"conversation_id": "rid", "run_id": "rid"}},
	{"webtrigger_events", map[string]string{"conversation_id": "rid", "run_id": "rid"}},
}

// earlierKey is a UUID of version 7, of a time long ago that rises with the runs.
const earlierKey = `(overlay(lpad(to_hex(rid), 12, '0') placing '-' from 9 for 0) || '-7' || substr(gen_random_uuid()::text, 16))::uuid`

// multiplyRun copies the only run of a database, with all that belongs to it.
func multiplyRun(ctx context.Context, dsn string, copies int) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	statements := []string{fmt.Sprintf(`CREATE TEMPORARY TABLE copies AS
		SELECT nextval(pg_get_serial_sequence('webtrigger_runs', 'id')) AS rid FROM generate_series(1, %d)`, copies)}
	for _, c := range copied {
		names, err := columns(ctx, conn, c.table)
		if err != nil {
			return err
		}
		values := make([]string, len(names))
		for i, name := range names {
			if values[i] = c.differ[name]; values[i] == "" {
				values[i] = "original." + name
			}
		}
		statements = append(statements, fmt.Sprintf(`INSERT INTO %s (%s) SELECT %s FROM copies, (SELECT * FROM %s) AS original`,
			c.table, strings.Join(names, ", "), strings.Join(values, ", "), c.table))
	}
	for _, sql := range append(statements, `DROP TABLE copies`, `VACUUM ANALYZE`) {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.50s: %w", sql, err)
		}
	}
	return nil
}

func columns(ctx context.Context, conn *pgx.Conn, table string) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT column_name FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position`, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
