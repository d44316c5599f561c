package main

import (
	"context"
	"fmt"
	"time"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

func pickupPath() path {
	return path{
		name:    "pickup",
		about:   "from the commit to the start of the Runner; n triggers arrive 10 ms apart",
		n:       200,
		columns: []string{"p50 µs", "p99 µs"},
		variants: []variant{
			{"own process", pickup("webtrigger-pickup", true)},
			{"other process", pickup("webtrigger-pickup", false)},
			{"river", pickup("river-pickup", false)},
		},
		goals: []report.Goal{
			{Figure: "p50 µs", Of: "own process", Is: report.AtMost, Bound: 50},
			{Figure: "p50 µs", Of: "other process", Over: "river", Is: report.AtMost, Bound: 1},
		},
	}
}

// pickup is a variant in which triggers arrive at one process and are taken by
// the same or by another one.
func pickup(kind string, own bool) func(context.Context, *rig) (report.Figures, error) {
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		dsn, err := r.database(ctx)
		if err != nil {
			return nil, err
		}
		worker, err := r.start(kind, serve.Config{DSN: dsn, Workers: executors})
		if err != nil {
			return nil, err
		}
		door := worker
		if !own {
			if door, err = r.start(kind, serve.Config{DSN: dsn}); err != nil {
				return nil, err
			}
		}
		if _, err := pickups(ctx, door, worker, 20); err != nil { // until everyone listens
			return nil, err
		}
		waits, err := pickups(ctx, door, worker, r.n)
		if err != nil {
			return nil, err
		}
		return report.Figures{"p50 µs": report.Quantile(waits, 0.5), "p99 µs": report.Quantile(waits, 0.99)}, nil
	}
}

// pickups creates n triggers and returns how long each waited.
func pickups(ctx context.Context, door, worker *child.Process, n int) ([]time.Duration, error) {
	committed, err := door.Do(n)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		started, err := worker.Counters()
		if err != nil {
			return nil, err
		}
		var waits []time.Duration
		for name, at := range committed {
			if start, ok := started[name]; ok {
				waits = append(waits, time.Duration((start-at)*float64(time.Microsecond)))
			}
		}
		if len(waits) == n {
			return waits, nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("not all of %d triggers were picked up", n)
}
