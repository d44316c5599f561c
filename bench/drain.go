package main

import (
	"context"

	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

func drainPath() path {
	return path{
		name:    "drain",
		about:   "n queued no-op runs, with their events and messages, until all have ended",
		n:       20_000,
		columns: []string{"runs/s", "server µs", "postgres µs"},
		variants: []variant{
			{product, drain("webtrigger-drain")},
			{"river", drain("river-drain")},
		},
		goals: []report.Goal{{Figure: "runs/s", Of: product, Over: "river", Is: report.AtLeast, Bound: 1.7}},
	}
}

// drain is a variant that works a queue off with 2000 executors, as many as
// River's own benchmark has.
func drain(kind string) func(context.Context, *rig) (report.Figures, error) {
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		p, err := r.startOn(ctx, kind, serve.Config{Workers: 2000, Rows: r.n})
		if err != nil {
			return nil, err
		}
		if err := r.bench.server.Checkpoint(ctx); err != nil {
			return nil, err
		}
		return r.timed(p, "runs/s", r.n)
	}
}
