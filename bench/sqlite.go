package main

import (
	"context"

	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

// sqlitePath has no goals, only figures, because SQLite is for one process.
func sqlitePath() path {
	on := serve.Config{Store: serve.SQLite}
	working := serve.Config{Store: serve.SQLite, Workers: 64}
	return path{
		name:    "sqlite",
		about:   "the product on SQLite: accepts, completed runs, polls",
		clients: 64,
		n:       2000,
		columns: []string{"req/s", "runs/s", "p50 µs", "p99 µs", "server µs"},
		variants: []variant{
			{"accept", accept("webtrigger", on, body(message))},
			{"accept one", one(accept("webtrigger", on, body(message)))},
			{"complete", complete("webtrigger", working)},
			{"status unfinished", status("webtrigger", on)},
			{"status finished", status("webtrigger", working)},
		},
	}
}

// one is a variant with one client, whatever the path has.
func one(measure func(context.Context, *rig) (report.Figures, error)) func(context.Context, *rig) (report.Figures, error) {
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		r.clients = 1
		return measure(ctx, r)
	}
}
