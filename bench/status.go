package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
	"github.com/webtrigger-go/webtrigger/bench/internal/load"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

func statusPath() path {
	return path{
		name:    "status",
		about:   "GET status of one of n triggers",
		clients: 64,
		n:       10_000,
		columns: loadColumns,
		variants: []variant{
			{"select", status("select", serve.Config{})},
			{"unfinished", status("webtrigger", serve.Config{})},
			{"finished", status("webtrigger", serve.Config{Workers: executors})},
		},
		goals: []report.Goal{
			{Figure: "req/s", Of: "unfinished", Over: "select", Is: report.AtLeast, Bound: 1.2},
			{Figure: "req/s", Of: "finished", Over: "unfinished", Is: report.AtLeast, Bound: 1},
		},
	}
}

// status is a variant that is polled.
func status(kind string, config serve.Config) func(context.Context, *rig) (report.Figures, error) {
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		config := config
		config.Rows = r.n
		p, err := r.startOn(ctx, kind, config)
		if err != nil {
			return nil, err
		}
		requests, err := polls(p, r.n)
		if err != nil {
			return nil, err
		}
		if config.Store == serve.Postgres {
			if err := r.bench.server.Checkpoint(ctx); err != nil {
				return nil, err
			}
		}
		return r.load(p, http.StatusOK, func(client, i int) []byte { return requests[(client*131+i)%len(requests)] })
	}
}

// polls makes triggers and returns a poll for each of some of them, in no order.
func polls(p *child.Process, n int) ([][]byte, error) {
	there, err := p.Do(n)
	if err != nil {
		return nil, err
	}
	first, last := int(there["first"]), int(there["last"])
	if first < 1 || last < first {
		return nil, errors.New("there are no triggers")
	}
	requests := make([][]byte, min(n, 4096))
	for i := range requests {
		id := first + i*48_611%(last-first+1)
		requests[i] = load.Request(http.MethodGet, fmt.Sprintf("/api/v1/web-triggers/%d/status", id), serve.Key, nil)
	}
	return requests, nil
}
