package main

import (
	"context"
	"fmt"
	"time"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
	"github.com/webtrigger-go/webtrigger/bench/internal/load"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

// frameSize is about how many bytes of data every event of the burst has. The
// product's frames have an envelope around the payload that peers do not have.
const (
	frameSize = 256
	envelope  = 190
)

func fanoutPath() path {
	return path{
		name:    "fanout",
		about:   "a burst of n events to every subscriber, in memory",
		clients: 500,
		n:       400,
		columns: []string{"deliveries/s", "lost", "server µs"},
		variants: []variant{
			{product, fanout("webtrigger-events", serve.Config{Store: serve.Memory, Workers: 1, Size: frameSize - envelope})},
			{"r3labs", fanout("r3labs", serve.Config{Store: serve.Memory, Size: frameSize})},
			{"go-sse", fanout("go-sse", serve.Config{Store: serve.Memory, Size: frameSize})},
		},
		goals: []report.Goal{
			{Figure: "deliveries/s", Of: product, Over: "r3labs", Is: report.AtLeast, Bound: 4.5},
			{Figure: "deliveries/s", Of: product, Over: "go-sse", Is: report.AtLeast, Bound: 15},
			{Figure: "lost", Of: product, Is: report.AtMost, Bound: 0},
		},
	}
}

// fanout is a variant that publishes as fast as it can. The time runs until the
// last subscriber has the last event.
func fanout(kind string, config serve.Config) func(context.Context, *rig) (report.Figures, error) {
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		p, err := r.startOn(ctx, kind, config)
		if err != nil {
			return nil, err
		}
		stream, err := streamOf(p)
		if err != nil {
			return nil, err
		}
		subs, err := load.Subscribe(p.Addr, stream, r.clients, false)
		if err != nil {
			return nil, err
		}
		r.later(subs.Close)
		if err := settle(p, subs, r.clients); err != nil {
			return nil, err
		}
		all := r.n * r.clients
		var took time.Duration
		lost := 0
		figures, err := r.metered(p, func() (int, error) {
			began := time.Now()
			if _, err := p.Do(r.n); err != nil {
				return 0, err
			}
			if lost = subs.Wait(all, patience); lost == 0 {
				took = time.Since(began)
			} else {
				took = time.Since(began) - patience
			}
			return all, nil
		})
		if err != nil {
			return nil, err
		}
		figures["deliveries/s"] = float64(all-lost) / took.Seconds()
		figures["lost"] = float64(lost)
		return figures, nil
	}
}

// settle publishes one event after the other until one of them has reached
// everyone: a peer may let a subscriber in a little after it has answered.
func settle(p *child.Process, subs *load.Subscribers, streams int) error {
	missing := 0
	for range 5 {
		subs.Reset()
		if _, err := p.Do(1); err != nil {
			return err
		}
		if missing = subs.Wait(streams, 2*time.Second); missing == 0 {
			subs.Reset()
			return nil
		}
	}
	return fmt.Errorf("%d of %d subscribers hear nothing", missing, streams)
}
