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

// fanout is a variant that publishes as fast as it can.
func fanout(kind string, config serve.Config) func(context.Context, *rig) (report.Figures, error) {
	return fanoutBy(kind, config, func(p *child.Process, subs *load.Subscribers, n, streams int) (lost int, err error) {
		if _, err := p.Do(n); err != nil {
			return 0, err
		}
		return subs.Wait(n*streams, patience), nil
	})
}

// fanoutBy is a variant in which n events are published to all streams. The time
// runs until the last subscriber has the last event.
func fanoutBy(kind string, config serve.Config, publish func(p *child.Process, subs *load.Subscribers, n, streams int) (lost int, err error),
) func(context.Context, *rig) (report.Figures, error) {
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
			var err error
			lost, err = publish(p, subs, r.n, r.clients)
			if took = time.Since(began); lost > 0 {
				took -= patience
			}
			return all, err
		})
		if err != nil {
			return nil, err
		}
		figures["deliveries/s"] = float64(all-lost) / took.Seconds()
		figures["lost"] = float64(lost)
		return figures, nil
	}
}

// fanoutEachPath has one event at a time: how long it takes until everyone has
// it, beside a loop that writes the same bytes to one connection after the other.
func fanoutEachPath(subscribers int) path {
	return path{
		name:    fmt.Sprintf("fanout-%d", subscribers),
		about:   fmt.Sprintf("one event to %d subscribers, in memory; n events, one after the other", subscribers),
		rounds:  3,
		clients: subscribers,
		n:       max(5, 40_000/subscribers),
		columns: []string{"deliveries/s", "lost", "server µs"},
		variants: []variant{
			{"loop", fanoutEach("loop", serve.Config{Store: serve.Memory, Size: frameSize})},
			{product, fanoutEach("webtrigger-events", serve.Config{Store: serve.Memory, Workers: 1, Size: frameSize - envelope})},
		},
		goals: []report.Goal{
			{Figure: "deliveries/s", Of: product, Over: "loop", Is: report.AtLeast, Bound: 0.8},
			{Figure: "lost", Of: product, Is: report.AtMost, Bound: 0},
		},
	}
}

// fanoutEach is a variant that publishes an event when everyone has the last one.
func fanoutEach(kind string, config serve.Config) func(context.Context, *rig) (report.Figures, error) {
	return fanoutBy(kind, config, func(p *child.Process, subs *load.Subscribers, n, streams int) (lost int, err error) {
		for i := range n {
			if _, err := p.Do(1); err != nil {
				return 0, err
			}
			if lost = subs.Wait((i+1)*streams, patience); lost > 0 {
				return lost + (n-i-1)*streams, nil
			}
		}
		return 0, nil
	})
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
	return fmt.Errorf("%d of %d subscribers receive nothing", missing, streams)
}
