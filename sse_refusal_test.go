package webtrigger_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/ssetest"
)

// visitor is somebody who may read streams until end is called.
type visitor struct {
	path    func(*feed, string) string
	header  []string
	end     func()
	refused int // the status from then on
}

// visitors are those who may be refused later, each on a site of its own.
var visitors = map[string]func(*testing.T) (*site, visitor){
	"session": func(t *testing.T) (*site, visitor) {
		var ended atomic.Bool
		s := newSite(t, siteConfig{authorize: func(r *http.Request, _ webtrigger.Access) error {
			if ended.Load() || r.Header.Get("Cookie") != "session=1" {
				return webtrigger.ErrUnauthenticated
			}
			return nil
		}})
		return s, visitor{(*feed).path, []string{"Cookie", "session=1"}, func() { ended.Store(true) }, 401}
	},
	"demoted": func(t *testing.T) (*site, visitor) {
		var left atomic.Bool
		s := newSite(t, siteConfig{authorize: func(*http.Request, webtrigger.Access) error {
			if left.Load() {
				return errors.New("no longer of this team")
			}
			return nil
		}})
		return s, visitor{(*feed).path, nil, func() { left.Store(true) }, 404}
	},
	"key": func(t *testing.T) (*site, visitor) {
		s := newSite(t, siteConfig{})
		key, bearer := newKey(t, s.svc, "1")
		return s, visitor{(*feed).keyPath, []string{"Authorization", bearer}, func() {
			_, err := s.svc.RevokeKey(t.Context(), key.ID)
			require.NoError(t, err)
		}, 401}
	},
}

// A session that has ended, a user who may no longer see the conversation, and a
// key that was revoked: each refusal closes a stream within 15 s, whether it rests, its
// reader is as slow as it may be, or it always has something to send.
func TestRefusalClosesStreams(t *testing.T) {
	t.Parallel()
	for who, enter := range visitors {
		for _, kind := range []string{"resting", "slow", "busy"} {
			t.Run(who+"/"+kind, func(t *testing.T) {
				t.Parallel()
				for at := range 12 {
					synctest.Test(t, func(t *testing.T) {
						s, v := enter(t)
						refuse(t, s, v, kind, time.Duration(at)*time.Second)
					})
				}
			})
		}
	}
}

// refuse opens a stream of a kind, ends the visitor's permission at the given time,
// and waits until the stream is closed.
func refuse(t *testing.T, s *site, v visitor, kind string, at time.Duration) {
	f := newFeed(t, s.store, 0)
	if kind == "slow" {
		f.appendPayload(500, `{"text":"`+strings.Repeat("x", 1000)+`"}`)
	}
	r := s.Open(v.path(f, "?after_event_id=2"), v.header...)
	require.Equal(t, 200, r.Response.StatusCode)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer r.Close()
	defer cancel()
	if kind == "busy" {
		all.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(100 * time.Millisecond) // fake time
				f.append(1)
			}
		})
	}
	var last atomic.Int64 // when the last event came
	all.Go(func() {
		for {
			if kind == "slow" {
				time.Sleep(250 * time.Millisecond) // a burst takes about 8 s
			}
			_, err := r.Next()
			switch {
			case err == nil:
				last.Store(time.Now().UnixNano())
			case !errors.Is(err, ssetest.ErrHeartbeat):
				return
			}
		}
	})
	time.Sleep(at)
	if kind != "resting" && at > 0 {
		require.NotZero(t, last.Load(), "events come")
	}
	ended := time.Now()
	v.end()
	for s.open.Load() > 0 { // until the handler has returned
		time.Sleep(50 * time.Millisecond)
		require.LessOrEqual(t, time.Since(ended), 15*time.Second, "%v after the start", at)
	}
	r.Close()
	require.Less(t, last.Load(), ended.Add(15*time.Second).UnixNano())
	require.Equal(t, v.refused, s.Open(v.path(f, ""), v.header...).Response.StatusCode)
}

// While nobody can tell whether a reader is still allowed, the stream stays and
// shows nothing.
func TestStreamWaitsForTheAuthorizer(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"allowed", "refused"} {
		synctest.Test(t, func(t *testing.T) {
			var word atomic.Pointer[error]
			say := func(err error) { word.Store(&err) }
			say(nil)
			s := newSite(t, siteConfig{authorize: func(*http.Request, webtrigger.Access) error { return *word.Load() }})
			f := newFeed(t, s.store, 0)
			r := s.Open(f.path("?after_event_id=2"))
			r.Beats(t, 1)
			say(fmt.Errorf("look up session: %w", webtrigger.ErrUnavailable))
			time.Sleep(9 * time.Second)
			f.append(1)
			r.Beats(t, 5) // and not the event
			start := time.Now()
			if then == "refused" {
				say(webtrigger.ErrUnauthenticated)
				require.Empty(t, r.Rest(t))
			} else {
				say(nil)
				require.Equal(t, ssetest.IDs(3, 3), r.Take(t, 1))
			}
			require.LessOrEqual(t, time.Since(start), time.Second)
			say(webtrigger.ErrUnavailable)
			require.Equal(t, 503, s.Open(f.path("")).Response.StatusCode)
		})
	}
}
