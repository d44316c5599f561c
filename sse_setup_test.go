package webtrigger_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/ssetest"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// feed is a run whose events the test writes.
type feed struct {
	t     *testing.T
	store webtrigger.Store
	run   webtrigger.Run
	lease webtrigger.Lease

	mu    sync.Mutex
	batch int64
}

// newFeed starts a run, in a new conversation for 0. It has two events then.
func newFeed(t *testing.T, store webtrigger.Store, conversationID int64) *feed {
	t.Helper()
	accepted, err := store.CreateTrigger(t.Context(), webtrigger.NewTrigger{
		RunKey: uuid.NewString(), AssistantID: "1", ConversationID: conversationID,
		Input: webtrigger.RunInput{Message: "go"}, BaseURL: "https://app.example.com",
		Claim: &webtrigger.Claimant{Worker: "test", Lease: 24 * time.Hour},
	})
	require.NoError(t, err)
	require.NotNil(t, accepted.Lease)
	return &feed{t: t, store: store, run: accepted.Run, lease: *accepted.Lease}
}

// append stores n events in one batch.
func (f *feed) append(n int) { f.appendPayload(n, `{"html":"<b>&amp;</b>","n":1e22}`) }

func (f *feed) appendPayload(n int, payload string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batch++
	events := make([]webtrigger.NewEvent, n)
	for i := range events {
		events[i] = webtrigger.NewEvent{Type: "x_step", Payload: json.RawMessage(payload)}
	}
	if err := f.store.AppendEvents(context.Background(), f.lease, webtrigger.EventBatch{Number: f.batch, Events: events}); err != nil {
		f.t.Error(err)
	}
}

func (f *feed) finish() {
	_, err := f.store.FinishRun(context.Background(), f.lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "ok"}})
	if err != nil {
		f.t.Error(err)
	}
}

func (f *feed) path(query string) string {
	return "/conversations/" + strconv.FormatInt(f.run.ConversationID, 10) + "/agent-events" + query
}

// ofRun is the path of the run's own stream.
func (f *feed) ofRun(query string) string {
	return f.path("?run_id=" + strconv.FormatInt(f.run.ID, 10) + query)
}

// site is a host with the stream mounted, over a network in memory.
type site struct {
	*ssetest.Server
	svc   *webtrigger.Service
	store webtrigger.Store
	open  atomic.Int64 // streams
}

type siteConfig struct {
	store     webtrigger.Store // nil: a memstore
	streams   webtrigger.StreamOptions
	authorize webtrigger.Authorizer
	wrap      func(http.Handler) http.Handler
}

func everyone(*http.Request, webtrigger.Access) error { return nil }

func newSite(t *testing.T, c siteConfig) *site {
	t.Helper()
	if c.store == nil {
		c.store = memstore.New(nil)
	}
	if c.authorize == nil {
		c.authorize = everyone
	}
	s := &site{store: c.store}
	var err error
	s.svc, err = webtrigger.New(c.store, nil, &webtrigger.Options{Workers: -1, Streams: c.streams, Hooks: webtrigger.Hooks{
		Stream: func(context.Context, int64) func() {
			s.open.Add(1)
			return func() { s.open.Add(-1) }
		},
	}})
	require.NoError(t, err)
	t.Cleanup(s.svc.CloseStreams) // which ends its watch of the store
	events := s.svc.EventsHandler(c.authorize)
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v1/web-triggers/") {
			s.svc.ServeHTTP(w, r)
			return
		}
		events.ServeHTTP(w, r)
	})
	if c.wrap != nil {
		handler = c.wrap(handler)
	}
	s.Server = ssetest.NewServer(t, handler, ssetest.Options{})
	return s
}
