package webtrigger_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/ssetest"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// watchedStore counts the watches of a store.
type watchedStore struct {
	webtrigger.Store
	open, begun atomic.Int64
	broken      atomic.Bool
}

func (s *watchedStore) Watch(ctx context.Context, notify func(webtrigger.Hint)) error {
	s.begun.Add(1)
	s.open.Add(1)
	defer s.open.Add(-1)
	if s.broken.Load() {
		return errors.New("broken")
	}
	return s.Store.Watch(ctx, notify)
}

// counts waits for goroutines and checks how many watches are open and were begun.
func (s *watchedStore) counts(t *testing.T, open, begun int64) {
	t.Helper()
	synctest.Wait()
	require.Equal(t, []int64{open, begun}, []int64{s.open.Load(), s.begun.Load()})
}

func TestWatch_workStreamsAndWaits_shareOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &watchedStore{Store: memstore.New(nil)}
		b := setupOn(t, store, nil, nil)
		b.fake = true
		_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
		require.NoError(t, err)
		server := ssetest.NewServer(t, b.svc.EventsHandler(everyone), ssetest.Options{})
		store.counts(t, 0, 0)

		f := newFeed(t, store, 0)
		early := server.Open(f.path(""))
		require.Equal(t, ssetest.IDs(1, 2), early.Take(t, 2))
		store.counts(t, 1, 1)
		stop := b.work()
		store.counts(t, 1, 1)
		f.append(1)
		require.Equal(t, ssetest.IDs(3, 3), early.Take(t, 1))
		start := time.Now()
		w := waiting(b.ctx, b.svc, secret, "POST", triggerPath, `{"message":"say x"}`, "10")
		require.Equal(t, http.StatusOK, w.Code)
		require.Zero(t, time.Since(start), "hints, not polls")
		store.counts(t, 1, 1)

		stop()
		store.counts(t, 1, 1) // the stream is still there
		f.append(1)
		require.Equal(t, ssetest.IDs(4, 4), early.Take(t, 1))
		early.Close()
		store.counts(t, 1, 1)
		b.work()()
		store.counts(t, 0, 1) // Work leaves nothing behind
	})
}

func TestWatch_afterTheLastStream_isKeptForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &watchedStore{Store: memstore.New(nil)}
		s := newSite(t, siteConfig{store: store})
		f := newFeed(t, store, 0)
		last := int64(2)
		visit := func() {
			r := s.Open(f.path("?after_event_id=2"))
			if last > 2 {
				require.Equal(t, ssetest.IDs(3, last), r.Take(t, int(last)-2))
			}
			synctest.Wait()
			start := time.Now()
			f.append(1)
			last++
			require.Equal(t, ssetest.IDs(last, last), r.Take(t, 1))
			require.Zero(t, time.Since(start), "hints, not polls")
			r.Close()
		}
		for range 5 { // a reader that reconnects
			visit()
			store.counts(t, 1, 1)
			time.Sleep(29 * time.Second)
		}
		store.counts(t, 1, 1)
		time.Sleep(time.Second)
		store.counts(t, 0, 1)
		visit()
		store.counts(t, 1, 2)
		s.svc.CloseStreams()
		store.counts(t, 0, 2)
	})
}

func TestWatch_failing_isTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &watchedStore{Store: memstore.New(nil)}
		store.broken.Store(true)
		s := newSite(t, siteConfig{store: store})
		f := newFeed(t, store, 0)
		r := s.Open(f.path("?after_event_id=2"))
		time.Sleep(5 * time.Second)
		store.counts(t, 0, 3)
		f.append(1)
		require.Equal(t, ssetest.IDs(3, 3), r.Take(t, 1), "by the poll")
		store.broken.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		start := time.Now()
		f.append(1)
		require.Equal(t, ssetest.IDs(4, 4), r.Take(t, 1))
		require.Zero(t, time.Since(start))
	})
}
