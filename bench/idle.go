package main

import (
	"context"
	"fmt"

	"github.com/webtrigger-go/webtrigger/bench/internal/load"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

func idlePath() path {
	const figure = "KiB/subscriber"
	return path{
		name:    "idle",
		about:   "resident memory of each of n subscribers on whose stream nothing happens",
		n:       10_000,
		rounds:  3,
		columns: []string{figure},
		variants: []variant{
			{"bare", idle("idle", 0, figure)},
			{"bare after an event", idle("idle", eventSize, figure)},
			{product, idle("webtrigger-events", 0, figure)},
		},
		goals: []report.Goal{{Figure: figure, Of: product, Is: report.AtMost, Bound: 25}},
	}
}

func idle(kind string, size int, figure string) func(context.Context, *rig) (report.Figures, error) {
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		p, err := r.startOn(ctx, kind, serve.Config{Store: serve.Memory, Workers: 1, Size: size})
		if err != nil {
			return nil, err
		}
		stream, err := streamOf(p)
		if err != nil {
			return nil, err
		}
		first, err := load.Subscribe(p.Addr, stream, 10, false) // what the first one starts is not counted
		if err != nil {
			return nil, err
		}
		r.later(first.Close)
		before, err := p.Memory()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errSkip, err)
		}
		subs, err := load.Subscribe(p.Addr, stream, r.n, false)
		if err != nil {
			return nil, err
		}
		r.later(subs.Close)
		after, err := p.Memory()
		if err != nil {
			return nil, err
		}
		if ended := subs.Ended(); ended > 0 {
			return nil, fmt.Errorf("%d streams have ended", ended)
		}
		return report.Figures{figure: (after - before) / 1024 / float64(r.n)}, nil
	}
}
