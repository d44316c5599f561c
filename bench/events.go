package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
	"github.com/webtrigger-go/webtrigger/bench/internal/load"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

// eventSize is how many bytes an event's payload has.
const eventSize = 100

// appendPath has the product three times: with appends that each wait for their
// commit, as the reference's do, as Runners emit, who do not wait, and with recorded steps
// instead of events.
func appendPath() path {
	return path{
		name:    "append",
		about:   "durable event appends, a run per client",
		clients: 64,
		columns: []string{"events/s", "p50 µs", "p99 µs", "server µs", "postgres µs"},
		variants: []variant{
			{"insert", appendEvents("insert")},
			{product, appendEvents("webtrigger-append")},
			{"emit", appendEvents("webtrigger-emit")},
			{"step", appendEvents("webtrigger-steps")},
		},
		goals: []report.Goal{
			{Figure: "events/s", Of: product, Over: "insert", Is: report.AtLeast, Bound: 3},
			{Figure: "events/s", Of: "step", Over: product, Is: report.AtLeast, Bound: 0.9},
		},
	}
}

func appendEvents(kind string) func(context.Context, *rig) (report.Figures, error) {
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		p, err := r.startOn(ctx, kind, serve.Config{Clients: r.clients, Workers: r.clients, Size: eventSize})
		if err != nil {
			return nil, err
		}
		if _, err := p.Do(int(r.warmUp().Milliseconds())); err != nil {
			return nil, err
		}
		var done child.Counters
		figures, err := r.metered(p, func() (n int, err error) {
			done, err = p.Do(int(r.bench.window.Milliseconds()))
			return int(done["count"]), err
		})
		if err != nil {
			return nil, err
		}
		figures["events/s"] = done["count"] / done["seconds"]
		for _, figure := range []string{"p50 µs", "p99 µs"} {
			if v, ok := done[figure]; ok {
				figures[figure] = v
			}
		}
		return figures, nil
	}
}

// The live path: a few subscribers, and events at a gentle rate.
const (
	liveStreams = 10
	liveRate    = 200 // a second
)

func livePath() path {
	return path{
		name:    "live",
		about:   "from the append of an event to a subscriber; 10 subscribers, n events, 200 a second",
		n:       300,
		columns: []string{"p50 µs", "p99 µs"},
		variants: []variant{
			{"log", live("log", false)},
			{"own process", live("webtrigger-events", false)},
			{"notify", live("notify", false)},
			{"other process", live("webtrigger-events", true)},
		},
		goals: []report.Goal{
			{Figure: "p50 µs", Of: "own process", Over: "log", Is: report.AtMost, Bound: 1.2},
			{Figure: "p50 µs", Of: "other process", Over: "notify", Is: report.AtMost, Bound: 1.2},
		},
	}
}

// live is a variant whose events are published in one process and read from the
// same or, apart, from another one.
func live(kind string, apart bool) func(context.Context, *rig) (report.Figures, error) {
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		dsn, err := r.database(ctx)
		if err != nil {
			return nil, err
		}
		publisher, err := r.start(kind, serve.Config{DSN: dsn, Workers: 4, Rate: liveRate, Size: eventSize})
		if err != nil {
			return nil, err
		}
		reader := publisher
		if apart {
			if reader, err = r.start(kind, serve.Config{DSN: dsn}); err != nil {
				return nil, err
			}
		}
		stream, err := streamOf(publisher)
		if err != nil {
			return nil, err
		}
		subs, err := load.Subscribe(reader.Addr, stream, liveStreams, true)
		if err != nil {
			return nil, err
		}
		r.later(subs.Close)
		if err := publish(publisher, subs, 40, liveStreams); err != nil { // until everyone listens
			return nil, err
		}
		subs.Reset()
		if err := publish(publisher, subs, r.n, liveStreams); err != nil {
			return nil, err
		}
		all := subs.Latencies()
		return report.Figures{"p50 µs": report.Quantile(all, 0.5), "p99 µs": report.Quantile(all, 0.99)}, nil
	}
}

// streamOf is the path of the stream that a child publishes on.
func streamOf(p *child.Process) (string, error) {
	counters, err := p.Counters()
	if id := int(counters["conversation"]); id > 0 {
		return fmt.Sprintf("/conversations/%d/agent-events", id), err
	}
	return "/events", err
}

// patience is how long a stream may be silent until its events count as lost.
const patience = 10 * time.Second

// publish publishes n events and waits until every stream has them.
func publish(p *child.Process, subs *load.Subscribers, n, streams int) error {
	if _, err := p.Do(n); err != nil {
		return err
	}
	if missing := subs.Wait(n*streams, patience); missing > 0 {
		return fmt.Errorf("%d events did not arrive", missing)
	}
	if subs.Ended() > 0 {
		return errors.New("a stream has ended")
	}
	return nil
}
