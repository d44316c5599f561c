// Package webtriggertest is what a host needs to test its own mount of package
// webtrigger: a service in memory that works, a scripted Runner, a clock to set, a
// callback receiver with faults, and a reader of event streams that finds holes.
//
// It is for tests: what goes wrong ends the test.
package webtriggertest

import (
	"context"
	"testing"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// Assistant is the assistant whose channel a new Service has open.
const Assistant = "1"

// wait bounds everything that this package waits for.
const wait = 30 * time.Second

// Options is what a test lets a Service differ in.
type Options struct {
	// Runner executes the runs. nil: a new Script that echoes, see Service.Script.
	Runner webtrigger.Runner

	// Clock is the time of the store: what keys expire by, among others. nil: the
	// wall clock.
	Clock *Clock

	// Receiver may get callbacks; the guard stays on for everything else. nil:
	// callbacks go to the public internet only, as in production.
	Receiver *Receiver

	// Service is the rest. Its Callback.Allow and Callback.RootCAs are those of the
	// Receiver, where there is one. Without a BaseURL it is
	// https://app.example.com.
	Service webtrigger.Options
}

// Service is a webtrigger.Service on a store in memory, with the channel of
// Assistant open, callbacks allowed, and one API key.
type Service struct {
	*webtrigger.Service
	Key    string  // the secret of an API key of Assistant
	Script *Script // the Runner; nil when the options brought another
}

// New starts a Service that works until the test ends. The options may be nil.
func New(tb testing.TB, opts *Options) *Service {
	tb.Helper()
	var o Options
	if opts != nil {
		o = *opts
	}
	s := &Service{}
	if o.Runner == nil {
		s.Script = new(Script)
		o.Runner = s.Script
	}
	store := &memstore.Options{}
	if o.Clock != nil {
		store.Clock = o.Clock
	}
	if o.Receiver != nil {
		o.Service.Callback.Allow, o.Service.Callback.RootCAs = o.Receiver.prefixes, o.Receiver.roots
	}
	if o.Service.BaseURL == "" {
		o.Service.BaseURL = "https://app.example.com"
	}
	if o.Service.DrainTimeout == 0 {
		o.Service.DrainTimeout = -1 // a test that ends waits for nobody
	}
	var err error
	s.Service, err = webtrigger.New(memstore.New(store), o.Runner, &o.Service)
	must(tb, "new service", err)
	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	must(tb, "open channel", s.SetChannel(ctx, webtrigger.Channel{AssistantID: Assistant, Enabled: true, AllowCallbackURLs: true}))
	_, s.Key, err = s.CreateKey(ctx, Assistant, webtrigger.KeySpec{Name: "test"})
	must(tb, "create key", err)
	worked := make(chan error, 1)
	go func() { worked <- s.Work(ctx) }()
	tb.Cleanup(func() {
		s.CloseStreams()
		stop()
		if err := <-worked; err != nil {
			tb.Errorf("webtriggertest: work: %v", err)
		}
	})
	return s
}

// Wait waits until a run has ended and returns it. Its events are stored then;
// its callback may be under way.
func (s *Service) Wait(tb testing.TB, runID int64) webtrigger.Run {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); <-tick.C {
		run, err := s.RunByID(tb.Context(), runID)
		must(tb, "read run", err)
		if run.Status.Terminal() {
			return run
		}
	}
	tb.Fatalf("webtriggertest: run %d has not ended within %v", runID, wait)
	return webtrigger.Run{}
}

func must(tb testing.TB, what string, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("webtriggertest: %s: %v", what, err)
	}
}
