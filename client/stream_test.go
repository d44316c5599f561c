package client_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// The connection breaks at any point, replicas change, proxies respond instead of the
// service, and the caller leaves and resumes. The reader receives every event once, in
// order.
func TestStream_brokenConnections_deliversEachEventOnce(t *testing.T) {
	t.Parallel()
	seeds := 150
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { loseNothing(t, rand.New(rand.NewPCG(uint64(seed), 1)), seed) })
	}
}

func loseNothing(t *testing.T, random *rand.Rand, seed int) {
	store := memstore.New(nil)
	var replicas []*webtrigger.Service
	for range 2 {
		svc, err := webtrigger.New(store, nil, &webtrigger.Options{NoWorkers: true})
		require.NoError(t, err)
		t.Cleanup(svc.CloseStreams) // which ends its watch of the store
		replicas = append(replicas, svc)
	}
	require.NoError(t, func() error {
		_, err := replicas[0].ImportKey(t.Context(), "1", webtrigger.KeySpec{Name: "Watcher"}, strings.Repeat("ab", 32))
		return err
	}())
	var mu sync.Mutex
	dice := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+strings.Repeat("ab", 32))
		switch dice(8) {
		case 0:
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1:
			w.WriteHeader(http.StatusBadGateway)
		default:
			replicas[dice(2)].ServeHTTP(w, r)
		}
	})
	wrap := func(c net.Conn) (net.Conn, error) {
		if dice(10) == 0 {
			_ = c.Close()
			return nil, errors.New("connection refused")
		}
		return &mortal{c, dice(4000)}, nil
	}
	c := serve(t, handler, wrap, client.Options{MaxRetries: -1})

	a := newFeed(t, store, 0)
	b := newFeed(t, store, a.run.ConversationID)
	var writer sync.WaitGroup
	writer.Go(func() {
		for _, f := range []*feed{a, b} {
			if f == b {
				b.claim(t)
			}
			for range 15 {
				time.Sleep(time.Duration(dice(3000)) * time.Millisecond) // fake time
				f.append(t, 1+dice(5))
			}
			f.finish(t)
		}
	})
	var seen []int64
	cursor := int64(0)
	for rounds := 0; ; rounds++ {
		over := true
		for e, err := range c.StreamAfter(t.Context(), a.run.ConversationID, cursor) {
			require.NoError(t, err, "seed %d", seed)
			seen = append(seen, e.ID)
			cursor = e.ID
			require.Equal(t, a.run.ConversationID, e.ConversationID)
			if dice(40) == 0 {
				over = false
				break
			}
		}
		if over {
			break
		}
	}
	writer.Wait()
	last, err := store.LastEventIDs(t.Context(), []int64{a.run.ConversationID})
	require.NoError(t, err)
	require.Equal(t, ids(1, last[a.run.ConversationID]), seen, "seed %d", seed)
}

func TestStream_purgedEvents_reportsGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		svc, err := webtrigger.New(store, nil, &webtrigger.Options{NoWorkers: true})
		require.NoError(t, err)
		t.Cleanup(svc.CloseStreams) // which ends its watch of the store
		_, secret, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "Watcher"})
		require.NoError(t, err)
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+secret)
			svc.ServeHTTP(w, r)
		}), nil, client.Options{})
		f := newFeed(t, store, 0)
		f.append(t, 8)
		f.finish(t)
		_, err = store.PurgeEvents(t.Context(), f.run.ID, 5)
		require.NoError(t, err)
		var seen []int64
		gaps := 0
		for e, err := range c.Stream(t.Context(), f.run.ConversationID) {
			if err != nil {
				gaps++
				require.Equal(t, &client.GapError{FromID: 1, ToID: 5}, err)
				continue
			}
			seen = append(seen, e.ID)
		}
		require.Equal(t, 1, gaps)
		require.Equal(t, ids(6, 11), seen)
		for _, err := range c.Stream(t.Context(), f.run.ConversationID) {
			require.Error(t, err)
			break // and nothing is asked for any more
		}
		for range c.StreamAfter(t.Context(), f.run.ConversationID, 11) {
			require.Fail(t, "there is nothing left")
		}
	})
}

// A run that is silent for long is followed by one connection: heartbeats keep
// it, and the Timeout of the HTTP client does not count.
func TestStreamOutlivesSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		svc, err := webtrigger.New(store, nil, &webtrigger.Options{NoWorkers: true})
		require.NoError(t, err)
		t.Cleanup(svc.CloseStreams) // which ends its watch of the store
		_, secret, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "Watcher"})
		require.NoError(t, err)
		requests := 0
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			r.Header.Set("Authorization", "Bearer "+secret)
			svc.ServeHTTP(w, r)
		}), nil, client.Options{})
		f := newFeed(t, store, 0)
		var writer sync.WaitGroup
		writer.Go(func() {
			time.Sleep(10 * time.Minute) // fake time
			f.append(t, 1)
			time.Sleep(10 * time.Minute)
			f.finish(t)
		})
		var seen []int64
		for e, err := range c.Stream(t.Context(), f.run.ConversationID) {
			require.NoError(t, err)
			seen = append(seen, e.ID)
		}
		require.Equal(t, ids(1, 4), seen)
		require.Equal(t, 2, requests, "the stream, and the 204 at its end")
		writer.Wait()
	})
}

// The client's package pulls nothing into its host but the standard library.
func TestDependencies(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	require.NoError(t, err)
	for path := range strings.FieldsSeq(string(out)) {
		const module = "github.com/webtrigger-go/webtrigger/"
		require.Contains(t, []string{module + "client", module + "internal/sse", module + "internal/signature"}, path)
	}
}

func TestNew_invalidArguments_returnsError(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"", "key"}, {"/path", "key"}, {"ftp://example.com", "key"}, {"https://example.com/?a=b", "key"}, {"https://u:p@example.com", "key"},
		{"https://example.com/#x", "key"}, {"https://example.com", ""}, {"https://example.com", "a b"}, {"https://example.com", "a\r\nHost: b"},
	} {
		_, err := client.New(c[0], c[1], nil)
		require.Error(t, err, "%q", c)
	}
	_, err := client.New("https://example.com/base", strings.Repeat("ab", 32), nil)
	require.NoError(t, err)
}

// A context that ends ends the loop with its cause.
func TestStreamEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reason := errors.New("enough")
		for _, at := range []string{"reading", "waiting"} {
			ctx, cancel := context.WithCancelCause(t.Context())
			c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.AfterFunc(time.Millisecond, func() { cancel(reason) })
				if at == "reading" {
					w.Header().Set("Content-Type", "text/event-stream")
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				}
			}), nil, client.Options{})
			if at == "waiting" {
				c = serve(t, http.NotFoundHandler(), func(net.Conn) (net.Conn, error) {
					time.AfterFunc(time.Millisecond, func() { cancel(reason) })
					return nil, errors.New("no connection")
				}, client.Options{})
			}
			n := 0
			for _, err := range c.Stream(ctx, 1) {
				n++
				require.ErrorIs(t, err, reason)
			}
			require.Equal(t, 1, n)
		}
	})
}
