package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
	"github.com/webtrigger-go/webtrigger/bench/internal/load"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

// executors is how many runs the product and River may execute at a time where
// that is not what limits them.
const executors = 1000

func completePath() path {
	return path{
		name:    "complete",
		about:   "POST to a no-op run that is durably completed",
		clients: 64,
		columns: []string{"runs/s", "p50 µs", "p99 µs", "server µs", "postgres µs"},
		variants: []variant{
			{product, complete("webtrigger", serve.Config{Workers: executors})},
			{"river", complete("river-work", serve.Config{Workers: executors})},
		},
		goals: []report.Goal{{Figure: "runs/s", Of: product, Over: "river", Is: report.AtLeast, Bound: 4.5}},
	}
}

// complete is a variant in which a trigger counts when its run has ended: the
// time runs until the last one of the window has. The latencies are those of the
// 202.
func complete(kind string, config serve.Config) func(context.Context, *rig) (report.Figures, error) {
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		p, err := r.startOn(ctx, kind, config)
		if err != nil {
			return nil, err
		}
		warm, err := post(p, r.clients, r.warmUp())
		if err != nil {
			return nil, err
		}
		if err := awaitCompleted(ctx, p, warm.Requests); err != nil {
			return nil, err
		}
		var result *load.Result
		began := time.Now()
		figures, err := r.metered(p, func() (n int, err error) {
			if result, err = post(p, r.clients, r.bench.window); err != nil {
				return 0, err
			}
			return result.Requests, awaitCompleted(ctx, p, warm.Requests+result.Requests)
		})
		if err != nil {
			return nil, err
		}
		figures["runs/s"] = float64(result.Requests) / time.Since(began).Seconds()
		figures["p50 µs"] = report.Quantile(result.Latencies, 0.5)
		figures["p99 µs"] = report.Quantile(result.Latencies, 0.99)
		return figures, nil
	}
}

func post(p *child.Process, clients int, window time.Duration) (*load.Result, error) {
	request := triggerRequest(body(message))
	return load.Run(p.Addr, clients, window, http.StatusAccepted, func(int, int) []byte { return request })
}

// awaitCompleted returns when a child has completed so many runs in all.
func awaitCompleted(ctx context.Context, p *child.Process, n int) error {
	const patience = 30 * time.Second
	last, since := 0, time.Now()
	for {
		counters, err := p.Counters()
		if err != nil {
			return err
		}
		done := int(counters["completed"])
		switch {
		case done >= n:
			return nil
		case done != last:
			last, since = done, time.Now()
		case time.Since(since) > patience:
			return fmt.Errorf("%d of %d runs have not completed", n-done, n)
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
