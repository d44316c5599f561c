package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

// storedPath has a variant of n runs when the command line names a number: ten
// million take minutes to fill in and 15 GB.
func storedPath() path {
	p := path{
		name:    "stored",
		about:   "POST to 202, durable, when so many runs are stored already",
		clients: 64,
		columns: loadColumns,
		goals: []report.Goal{
			{Figure: "req/s", Of: "1000000 stored", Over: "10000 stored", Is: report.AtLeast, Bound: 0.8},
		},
	}
	for _, n := range []int{10_000, 1_000_000} {
		p.variants = append(p.variants, variant{strconv.Itoa(n) + " stored", stored(n)})
	}
	p.variants = append(p.variants, variant{"n stored", storedN})
	return p
}

// stored is a variant whose database is filled in the first round and then kept.
func stored(n int) func(context.Context, *rig) (report.Figures, error) {
	request := triggerRequest(body(message))
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		dsn, fresh, err := r.keptDatabase(ctx, strconv.Itoa(n))
		if err != nil {
			return nil, err
		}
		config := serve.Config{DSN: dsn}
		if fresh {
			config.Rows = n
		}
		p, err := r.start("webtrigger-stored", config)
		if err != nil {
			return nil, err
		}
		if err := r.bench.server.Checkpoint(ctx); err != nil {
			return nil, err
		}
		return r.load(p, http.StatusAccepted, func(int, int) []byte { return request })
	}
}

// storedN is stored with the number of runs of the flag -n.
func storedN(ctx context.Context, r *rig) (report.Figures, error) {
	if r.n == 0 {
		return nil, fmt.Errorf("%w: set -n to the number of runs", errSkip)
	}
	return stored(r.n)(ctx, r)
}
