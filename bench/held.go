package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/webtrigger-go/webtrigger/bench/internal/load"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

// heldPath measures the effect of another session's open transaction on the queue.
// PostgreSQL cannot remove deleted rows while it is open, and every claim skips them.
// A variant takes a minute in each round. Its rate is that of the minute's last part.
func heldPath() path {
	return path{
		name:    "held",
		about:   "POST to a no-op run that is durably completed, at the end of a minute in which a transaction was held open",
		rounds:  1,
		clients: 64,
		columns: []string{"first runs/s", "last runs/s", "server µs", "postgres µs"},
		variants: []variant{
			{"clean", held(false)},
			{"held", held(true)},
		},
		goals: []report.Goal{{Figure: "last runs/s", Of: "held", Over: "clean", Is: report.AtLeast, Bound: 0.8}},
	}
}

const (
	heldFor  = time.Minute
	heldPart = 10 * time.Second // of which a rate is taken
)

func held(hold bool) func(context.Context, *rig) (report.Figures, error) {
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		dsn, err := r.database(ctx)
		if err != nil {
			return nil, err
		}
		p, err := r.start("webtrigger", serve.Config{DSN: dsn, Workers: executors})
		if err != nil {
			return nil, err
		}
		warm, err := post(p, r.clients, r.warmUp())
		if err != nil {
			return nil, err
		}
		done := warm.Requests
		if err := awaitCompleted(ctx, p, done); err != nil {
			return nil, err
		}
		if hold {
			release, err := holdTransaction(ctx, dsn)
			if err != nil {
				return nil, err
			}
			defer release()
		}
		rates := make([]float64, 0, heldFor/heldPart)
		figures, err := r.metered(p, func() (int, error) {
			all := 0
			for range heldFor / heldPart {
				began := time.Now()
				var result *load.Result
				if result, err = post(p, r.clients, heldPart); err != nil {
					return 0, err
				}
				all, done = all+result.Requests, done+result.Requests
				if err := awaitCompleted(ctx, p, done); err != nil {
					return 0, err
				}
				rates = append(rates, float64(result.Requests)/time.Since(began).Seconds())
			}
			return all, nil
		})
		if err != nil {
			return nil, err
		}
		figures["first runs/s"], figures["last runs/s"] = rates[0], rates[len(rates)-1]
		return figures, nil
	}
}

// holdTransaction opens a transaction whose snapshot prevents the removal of rows that
// are deleted from now on.
func holdTransaction(ctx context.Context, dsn string) (release func(), err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err == nil {
		_, err = tx.Exec(ctx, `SELECT count(*) FROM pg_class`)
	}
	release = func() { _ = conn.Close(context.WithoutCancel(ctx)) }
	if err != nil {
		release()
	}
	return release, err
}
