package webtrigger_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// questions is a resolver whose name servers cannot be reached; it counts the questions.
func questions(asked func()) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		asked()
		return nil, errors.New("no name server")
	}}
}

// creations counts the calls that create a trigger.
type creations struct {
	webtrigger.Store
	n atomic.Int64
}

func (s *creations) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	s.n.Add(1)
	return s.Store.CreateTrigger(ctx, t)
}

func TestRateLimit_keyOverItsRate_costsNoLookupAndNoTransaction(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	store := &creations{Store: memstore.New(nil)}
	b := setupOn(t, store, nil, &webtrigger.Options{
		BaseURL: "https://app.example.com", Limits: webtrigger.Limits{TriggersPerKey: 1},
		Callback: webtrigger.CallbackOptions{Resolver: questions(func() { asked.Add(1) })},
	})
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	send := func(body string) int { return waiting(b.ctx, b.svc, secret, "POST", triggerPath, body, "0").Code }
	require.Equal(t, http.StatusAccepted, send(`{"message":"say x"}`))
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			code := send(fmt.Sprintf(`{"message":"x","callback_url":"https://h%d.hooks.example.com/"}`, i))
			if code != http.StatusTooManyRequests {
				t.Errorf("status %d", code)
			}
		})
	}
	all.Wait()
	require.Zero(t, asked.Load())
	require.EqualValues(t, 1, store.n.Load())
}

func TestRateLimit_rejectedRequest_countsOnlyAfterALookup(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	b := setup(t, nil, &webtrigger.Options{
		BaseURL: "https://app.example.com", Limits: webtrigger.Limits{TriggersPerKey: 2},
		Callback: webtrigger.CallbackOptions{Resolver: questions(func() { asked.Add(1) })},
	})
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	send := func(body string) int { return waiting(b.ctx, b.svc, secret, "POST", triggerPath, body, "0").Code }
	for range 5 {
		require.Equal(t, http.StatusBadRequest, send(`{"message"`))
		require.Equal(t, http.StatusUnprocessableEntity, send(`{"message":""}`))
		require.Equal(t, http.StatusUnprocessableEntity, send(`{"message":"x","callback_url":"https://127.0.0.1/"}`))
		require.Equal(t, http.StatusUnprocessableEntity, send(`{"message":"x","callback_url":"http://hooks.example.com/"}`))
	}
	require.Zero(t, asked.Load())
	require.Equal(t, http.StatusUnprocessableEntity, send(`{"message":"","callback_url":"https://hooks.example.com/"}`))
	require.NotZero(t, asked.Load())
	require.Equal(t, http.StatusAccepted, send(`{"message":"say x"}`))
	require.Equal(t, http.StatusTooManyRequests, send(`{"message":"say x"}`))
}

// channelStore tells when its channel is read.
type channelStore struct {
	webtrigger.Store
	read func()
}

func (s channelStore) Channel(ctx context.Context, assistantID string) (webtrigger.Channel, error) {
	s.read()
	return s.Store.Channel(ctx, assistantID)
}

func TestTriggerVia_callbackName_isLookedUpBeforeTheStoreIsUsed(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []string
	note := func(what string) func() {
		return func() {
			mu.Lock()
			defer mu.Unlock()
			if len(order) == 0 || order[len(order)-1] != what {
				order = append(order, what)
			}
		}
	}
	b := setup(t, nil, &webtrigger.Options{
		BaseURL:  "https://app.example.com",
		Callback: webtrigger.CallbackOptions{Resolver: questions(note("lookup"))},
	})
	tx := channelStore{b.store, note("store")}
	_, err := b.svc.TriggerVia(b.ctx, tx, "1", webtrigger.TriggerRequest{Message: "x", CallbackURL: "https://hooks.example.com/"})
	require.NoError(t, err)
	require.Equal(t, []string{"lookup", "store"}, order)

	var rejected *webtrigger.RequestError
	_, err = b.svc.TriggerVia(b.ctx, tx, "1", webtrigger.TriggerRequest{CallbackURL: "https://127.0.0.1/"})
	require.ErrorAs(t, err, &rejected)
	require.Len(t, rejected.Faults, 2, "every fault at once")
}

// heldStore holds creations until it is released.
type heldStore struct {
	webtrigger.Store
	under   atomic.Int64
	release chan struct{}
}

func (s *heldStore) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	s.under.Add(1)
	<-s.release
	return s.Store.CreateTrigger(ctx, t)
}

// A client that resets its requests leaves creations behind, of which a key has a
// bound. Other keys do not notice.
func TestTrigger_resetRequests_leaveABoundedNumberOfCreations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &heldStore{Store: memstore.New(nil), release: make(chan struct{})}
		b := setupOn(t, store, nil, nil)
		var secrets []string
		for _, name := range []string{"Make", "n8n"} {
			_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: name})
			require.NoError(t, err)
			secrets = append(secrets, secret)
		}
		ctx, reset := context.WithCancel(b.ctx)
		var all sync.WaitGroup
		var rejected atomic.Int64
		for range 2500 {
			all.Go(func() {
				if waiting(ctx, b.svc, secrets[0], "POST", triggerPath, `{"message":"x"}`, "0").Code == http.StatusServiceUnavailable {
					rejected.Add(1)
				}
			})
		}
		synctest.Wait()
		require.EqualValues(t, 2000, store.under.Load())
		require.EqualValues(t, 500, rejected.Load())
		reset()
		waiting(ctx, b.svc, secrets[1], "POST", triggerPath, `{"message":"x"}`, "0")
		require.EqualValues(t, 2000, store.under.Load(), "a request that was reset early creates nothing")
		all.Go(func() { waiting(b.ctx, b.svc, secrets[1], "POST", triggerPath, `{"message":"x"}`, "0") })
		synctest.Wait()
		require.EqualValues(t, 2001, store.under.Load(), "another key")
		close(store.release)
		all.Wait()
		require.Equal(t, http.StatusAccepted, waiting(b.ctx, b.svc, secrets[0], "POST", triggerPath, `{"message":"x"}`, "0").Code)
	})
}
