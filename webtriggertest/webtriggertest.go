// Package webtriggertest helps a host to test its mount of package webtrigger: a
// working service in memory, a scripted Runner, a clock, a callback receiver with
// faults, and a reader of event streams that finds gaps.
//
// Its functions end the test if they fail.
package webtriggertest

import (
	"context"
	"testing"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// Assistant is the assistant whose channel a new Service enables.
const Assistant = "1"

// wait is the maximum duration of every wait of this package.
const wait = 30 * time.Second

// Options configures a Service.
type Options struct {
	// Runner executes the runs. If nil, it is a new Script, see Service.Script.
	Runner webtrigger.Runner

	// Clock is the time of the store, for example for the expiry of keys. If nil, it is
	// the wall clock.
	Clock *Clock

	// Receiver may receive callbacks. The egress guard stays on for all other addresses.
	// If nil, callbacks may reach the public internet only, as in production.
	Receiver *Receiver

	// Service is all other options. If there is a Receiver, it sets Callback.Allow and
	// Callback.RootCAs. The default of BaseURL is https://app.example.com.
	Service webtrigger.Options
}

// Service is a webtrigger.Service on a store in memory, with an enabled channel of
// Assistant, callbacks allowed, and one API key.
type Service struct {
	*webtrigger.Service
	Key    string  // the plaintext of an API key of Assistant
	Script *Script // the Runner; nil if the options have another one

	leases *leases
}

// New starts a Service that executes runs until the test ends. The options may be nil.
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
		o.Service.DrainTimeout = -1 // do not wait for runs when the test ends
	}
	var err error
	s.leases = &leases{Store: memstore.New(store), last: make(map[int64]webtrigger.Lease)}
	s.Service, err = webtrigger.New(s.leases, o.Runner, &o.Service)
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

// Converse sends a message to the conversation of Assistant with a key, which it starts
// the first time, and waits until the run has ended. Script.Tasks has what the Runner got,
// with the earlier messages in Task.History.
func (s *Service) Converse(tb testing.TB, key, message string) webtrigger.Run {
	tb.Helper()
	run, err := s.Trigger(tb.Context(), Assistant, webtrigger.TriggerRequest{Message: message, ConversationKey: key})
	must(tb, "trigger", err)
	return s.Wait(tb, run.ID)
}

// Transcript returns the messages of a conversation.
func (s *Service) Transcript(tb testing.TB, conversationID int64) (messages []webtrigger.Message) {
	tb.Helper()
	query := webtrigger.MessageQuery{ConversationID: conversationID, Limit: webtrigger.MaxPageSize}
	for {
		page, err := s.Messages(tb.Context(), query)
		must(tb, "read messages", err)
		messages = append(messages, page...)
		if len(page) < query.Limit {
			return messages
		}
		query.After = page[len(page)-1].ID
	}
}

// Wait waits until a run has ended and returns it. All its events are stored then. Its
// callback may still be pending.
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
