package serve

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
)

const insertStatement = `INSERT INTO events (run_id, sequence, type, payload) VALUES ($1, $2, 'x_bench', $3)`

// serveInsert appends events with one INSERT each, for as many runs at a time as
// there are clients. Do lasts n milliseconds.
func serveInsert(ctx context.Context, c Config) (*child.Server, error) {
	pool, err := newTables(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	sequences := make([]int64, c.Clients)
	return &child.Server{Do: closedLoop(c.Clients, func(ctx context.Context, run int) error {
		sequences[run]++
		_, err := pool.Exec(ctx, insertStatement, run, sequences[run], stamped(c.Size))
		return err
	})}, nil
}

// closedLoop is a Do of n milliseconds in which each client does its next piece
// when the last one is done. It returns the rate and the latencies.
func closedLoop(clients int, piece func(ctx context.Context, client int) error) func(context.Context, int) (child.Counters, error) {
	return func(ctx context.Context, n int) (child.Counters, error) {
		var (
			under  sync.WaitGroup
			mu     sync.Mutex
			all    []time.Duration
			failed error
		)
		began := time.Now()
		end := began.Add(time.Duration(n) * time.Millisecond)
		for client := range clients {
			under.Go(func() {
				var own []time.Duration
				var err error
				for err == nil && time.Now().Before(end) {
					sent := time.Now()
					if err = piece(ctx, client); err == nil {
						own = append(own, time.Since(sent))
					}
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, own...)
				if err != nil {
					failed = err
				}
			})
		}
		under.Wait()
		return child.Counters{
			"count": float64(len(all)), "seconds": time.Since(began).Seconds(),
			"p50 µs": report.Quantile(all, 0.5), "p99 µs": report.Quantile(all, 0.99),
		}, failed
	}
}

// serveLog stores each event with one INSERT and then fans it out: what an event
// takes at least that is stored before it is shown.
func serveLog(ctx context.Context, c Config) (*child.Server, error) {
	pool, err := newTables(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	log := &shared{grown: make(chan struct{})}
	sequence := 0
	return streams(c, log.stream, func(data string) error {
		sequence++
		if _, err := pool.Exec(ctx, insertStatement, 1, sequence, data); err != nil {
			return err
		}
		log.append(data)
		return nil
	}), nil
}

// serveNotify is serveLog with the readers in another process, or so to speak:
// NOTIFY signals an event, and they read it from the table.
func serveNotify(ctx context.Context, c Config) (*child.Server, error) {
	pool, err := newTables(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	listener, err := pgx.Connect(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	if _, err := listener.Exec(ctx, `LISTEN bench_events`); err != nil {
		return nil, err
	}
	log := &shared{grown: make(chan struct{})}
	go func() {
		var last int64
		var data string
		for {
			_, err := listener.WaitForNotification(ctx)
			if err == nil {
				rows, _ := pool.Query(ctx, `SELECT id, payload::text FROM events WHERE id > $1 ORDER BY id LIMIT 500`, last)
				_, err = pgx.ForEachRow(rows, []any{&last, &data}, func() error { log.append(data); return nil })
			}
			if err != nil {
				os.Exit(1)
			}
		}
	}()
	sequence := 0
	return streams(c, log.stream, func(data string) error {
		sequence++
		_, err := pool.Exec(ctx, `WITH e AS (`+insertStatement+` RETURNING id) SELECT pg_notify('bench_events', id::text) FROM e`, 1, sequence, data)
		return err
	}), nil
}
