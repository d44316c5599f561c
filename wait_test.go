package webtrigger_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/ssetest"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// readStore counts reads of runs and of the ends of logs.
type readStore struct {
	webtrigger.Store
	runs, ends atomic.Int64
	mute       atomic.Bool // Watch sends no hints
}

func (s *readStore) RunSummary(ctx context.Context, id int64) (webtrigger.Run, error) {
	s.runs.Add(1)
	return s.Store.RunSummary(ctx, id)
}

func (s *readStore) LastEventIDs(ctx context.Context, ids []int64) (map[int64]int64, error) {
	s.ends.Add(1)
	return s.Store.LastEventIDs(ctx, ids)
}

func (s *readStore) Watch(ctx context.Context, notify func(webtrigger.Hint)) error {
	return s.Store.Watch(ctx, func(h webtrigger.Hint) {
		if !s.mute.Load() {
			notify(h)
		}
	})
}

func waiting(ctx context.Context, svc http.Handler, secret, method, path, body, wait string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Prefer", "wait="+wait)
	w := httptest.NewRecorder()
	svc.ServeHTTP(w, r)
	return w
}

const (
	triggerPath = "/api/v1/assistants/1/web-trigger"
	statusPath  = "/api/v1/web-triggers/1/status"
)

// Many waiters on another replica cost no reads while nothing moves, and all are
// answered when the run ends, by the hint at once, without it by the poll.
func TestWaitersAreWokenByTheEndOnAnyReplica(t *testing.T) {
	t.Parallel()
	for _, mute := range []bool{false, true} {
		t.Run(fmt.Sprint("mute ", mute), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &readStore{Store: memstore.New(nil)}
				store.mute.Store(mute)
				b := setupOn(t, store, nil, nil)
				_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
				require.NoError(t, err)
				b.trigger("say x")
				replica, err := webtrigger.New(store, nil, &webtrigger.Options{
					NoWorkers: true, BaseURL: "https://app.example.com", Streams: webtrigger.StreamOptions{PerKey: -1},
				})
				require.NoError(t, err)
				t.Cleanup(replica.CloseStreams)
				var answered sync.WaitGroup
				began, ended := time.Now(), atomic.Int64{}
				for range 1000 {
					answered.Go(func() {
						w := waiting(t.Context(), replica, secret, "GET", statusPath, "", "60")
						if w.Code == http.StatusOK && strings.Contains(w.Body.String(), `"run_status":"completed"`) {
							ended.Add(1)
						}
					})
				}
				time.Sleep(5 * time.Second)
				synctest.Wait()
				before := store.runs.Load() // one each at most, when they came
				time.Sleep(25 * time.Second)
				synctest.Wait()
				require.LessOrEqual(t, store.ends.Load(), int64(25), "one query for all each two seconds")
				require.LessOrEqual(t, before, int64(1002))
				require.Equal(t, before, store.runs.Load(), "and no reads of the run while nothing moves")
				require.Zero(t, ended.Load())
				require.NoError(t, b.svc.Execute(b.ctx, 1))
				answered.Wait()
				require.EqualValues(t, 1000, ended.Load())
				late := time.Since(began) - 30*time.Second
				if mute {
					require.LessOrEqual(t, late, 2*time.Second)
				} else {
					require.Zero(t, late)
				}
			})
		})
	}
}

func TestTriggerThatPrefersToWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil, nil)
		b.fake = true
		key, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
		require.NoError(t, err)
		stop := b.work()
		defer stop()

		w := waiting(b.ctx, b.svc, secret, "POST", triggerPath, `{"message":"say x"}`, "10")
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "wait=10", w.Header().Get("Preference-Applied"))
		require.Contains(t, w.Body.String(), `"result":"x"`)

		began := time.Now()
		w = waiting(b.ctx, b.svc, secret, "POST", triggerPath, `{"message":"hang"}`, "10")
		require.Equal(t, http.StatusAccepted, w.Code)
		require.Equal(t, 10*time.Second, time.Since(began))
		require.Contains(t, w.Body.String(), `"status":"accepted"`)

		gone, leave := context.WithTimeout(b.ctx, 5*time.Second)
		defer leave()
		w = waiting(gone, b.svc, secret, "POST", triggerPath, `{"message":"hang"}`, "60")
		require.Equal(t, http.StatusAccepted, w.Code)
		require.Contains(t, w.Body.String(), `"status":"accepted"`, "in case the client still reads")
		require.Equal(t, webtrigger.RunRunning, b.run(3).Status, "a client that disconnects changes nothing")

		// A key that is revoked during the wait sees nothing of its end.
		answer := make(chan *httptest.ResponseRecorder, 1)
		go func() {
			answer <- waiting(b.ctx, b.svc, secret, "GET", "/api/v1/web-triggers/2/status", "", "60")
		}()
		synctest.Wait()
		_, err = b.svc.RevokeKey(b.ctx, key.ID)
		require.NoError(t, err)
		_, err = b.svc.CancelRun(b.ctx, 2, "")
		require.NoError(t, err)
		require.Equal(t, http.StatusUnauthorized, (<-answer).Code)
		_, err = b.svc.CancelRun(b.ctx, 3, "")
		require.NoError(t, err)

		// A host's own trigger waits too.
		r := httptest.NewRequest("POST", "/", strings.NewReader(`{"message":"say y"}`))
		r.Header = http.Header{"Content-Type": {"application/json"}, "Prefer": {"wait=10"}}
		w = httptest.NewRecorder()
		b.svc.ServeTrigger(w, r, "1")
		require.Equal(t, http.StatusOK, w.Code)
		require.Contains(t, w.Body.String(), `"result":"y"`)
	})
}

func TestWaitEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil, nil)
		_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
		require.NoError(t, err)
		b.trigger("hang")
		time.AfterFunc(time.Second, b.svc.CloseStreams)
		began := time.Now()
		for range 2 { // also one that comes afterwards
			w := waiting(b.ctx, b.svc, secret, "GET", statusPath, "", "60")
			require.Equal(t, http.StatusOK, w.Code)
			require.Contains(t, w.Body.String(), `"status":"processing"`)
		}
		require.Equal(t, time.Second, time.Since(began))
	})
}

// Over a real connection, the server's timeouts do not cut the wait.
func TestServerTimeoutsDoNotCutAWait(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := setup(t, webtrigger.RunnerFunc(func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
		<-release
		return &webtrigger.Result{Text: "late"}, nil
	}), nil)
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	stop := b.work()
	defer stop()
	server := httptest.NewUnstartedServer(b.svc)
	server.Config.ReadTimeout, server.Config.WriteTimeout = 3*time.Second, 3*time.Second
	server.Start()
	defer server.Close()
	time.AfterFunc(4*time.Second, func() { close(release) })
	r, err := http.NewRequest("POST", server.URL+triggerPath, strings.NewReader(`{"message":"x"}`))
	require.NoError(t, err)
	r.Header = http.Header{"Authorization": {"Bearer " + secret}, "Content-Type": {"application/json"}, "Prefer": {"wait=30"}}
	answer, err := server.Client().Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

// Streams and waits of a key have one bound. Who is beyond it is answered at once.
func TestWait_keyAtItsLimit_isAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", Streams: webtrigger.StreamOptions{PerKey: 3}})
		var secrets []string
		for _, name := range []string{"Make", "n8n"} {
			_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: name})
			require.NoError(t, err)
			secrets = append(secrets, secret)
		}
		b.trigger("hang")
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { waiting(t.Context(), b.svc, secrets[0], "GET", statusPath, "", "60") })
		}
		synctest.Wait()
		start := time.Now()
		w := waiting(b.ctx, b.svc, secrets[0], "GET", statusPath, "", "60")
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "wait=60", w.Header().Get("Preference-Applied"))
		w = waiting(b.ctx, b.svc, secrets[0], "POST", triggerPath, `{"message":"hang"}`, "60")
		require.Equal(t, http.StatusAccepted, w.Code)
		require.Equal(t, "wait=60", w.Header().Get("Preference-Applied"))
		w = waiting(b.ctx, b.svc, secrets[0], "GET", "/api/v1/web-triggers/1/events", "", "0")
		require.Equal(t, http.StatusTooManyRequests, w.Code)
		require.Zero(t, time.Since(start))
		waiting(b.ctx, b.svc, secrets[1], "GET", statusPath, "", "20")
		require.Equal(t, 20*time.Second, time.Since(start), "another key waits")
		all.Wait()
		start = time.Now()
		waiting(b.ctx, b.svc, secrets[0], "GET", statusPath, "", "7")
		require.Equal(t, 7*time.Second, time.Since(start), "who has waited leaves room")
	})
}

// A body that never comes is cut off by the server's ReadTimeout, waits or not.
func TestWait_unreadBody_keepsTheServersReadTimeout(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	b.trigger("hang")
	server := httptest.NewUnstartedServer(b.svc)
	server.Config.ReadTimeout, server.Config.WriteTimeout = time.Second, time.Second
	server.Start()
	defer server.Close()
	for _, prefer := range []string{"", "Prefer: wait=2\r\n"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%sContent-Length: 10\r\n\r\n", statusPath, secret, prefer)
		require.NoError(t, err)
		_, err = io.ReadAll(conn)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection must be closed")
	}
}

// A client may close its half of the connection and still read. The server then ends the
// context of its request, as it does for one that has disconnected.
func TestWait_clientClosesItsHalf_getsResponse(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	server := httptest.NewServer(b.svc)
	defer server.Close()
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", triggerPath, `{"message":"hang"}`, http.StatusAccepted},
		{"GET", statusPath, "", http.StatusServiceUnavailable},
	} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nPrefer: wait=60\r\nContent-Length: %d\r\n\r\n%s",
			c.method, c.path, secret, len(c.body), c.body)
		require.NoError(t, err)
		require.Eventually(t, func() bool { // it waits for the run
			queue, err := b.svc.QueueState(b.ctx)
			return err == nil && queue.Queued == 1
		}, 10*time.Second, 5*time.Millisecond)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, c.status, answer.StatusCode, c.path)
	}
}

// A host may end the context of requests, such as http.Server.BaseContext when it shuts
// down. A handler that writes nothing then would respond with 200.
func TestServeHTTP_contextEnded_returnsUnavailable(t *testing.T) {
	t.Parallel()
	seen := make(chan int, 1)
	b := setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", Hooks: webtrigger.Hooks{
		Request: func(context.Context, webtrigger.RequestInfo) (context.Context, func(webtrigger.RequestOutcome)) {
			return nil, func(o webtrigger.RequestOutcome) { seen <- o.Status }
		},
	}})
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	ended, cancel := context.WithCancel(b.ctx)
	cancel()
	w := waiting(ended, b.svc, secret, "POST", triggerPath, `{"message":"say x"}`, "0")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), `"code":"unavailable"`)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.Zero(t, <-seen)
	queue, err := b.svc.QueueState(b.ctx)
	require.NoError(t, err)
	require.Zero(t, queue.Queued, "nothing was stored")
}

func TestStatusAcceptedUntilTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", AcceptedWhileProcessing: true})
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	b.trigger("say x")
	w := waiting(b.ctx, b.svc, secret, "GET", statusPath, "", "0")
	require.Equal(t, http.StatusAccepted, w.Code)
	require.Equal(t, "https://app.example.com"+statusPath, w.Header().Get("Location"))
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.Empty(t, w.Header().Get("ETag"))
	require.Contains(t, w.Body.String(), `"status":"processing"`)
	require.NoError(t, b.svc.Execute(b.ctx, 1))
	w = waiting(b.ctx, b.svc, secret, "GET", statusPath, "", "0")
	require.Equal(t, http.StatusOK, w.Code)
	require.Empty(t, w.Header().Get("Location"))
}

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

// wholeStore counts reads of whole runs and of whole conversations.
type wholeStore struct {
	webtrigger.Store
	whole atomic.Int64
}

func (s *wholeStore) RunByID(ctx context.Context, id int64) (webtrigger.Run, error) {
	s.whole.Add(1)
	return s.Store.RunByID(ctx, id)
}

func (s *wholeStore) Conversation(ctx context.Context, id int64) (webtrigger.Conversation, error) {
	s.whole.Add(1)
	return s.Store.Conversation(ctx, id)
}

// unlimited accepts the deadlines that a stream sets.
type unlimited struct{ *httptest.ResponseRecorder }

func (unlimited) SetWriteDeadline(time.Time) error { return nil }

// A result is read where it is shown, and a large one apart from the authentication.
// Streams, lists and requests that are denied do not read it.
func TestResult_anySize_isReadOnlyWhereShown(t *testing.T) {
	t.Parallel()
	store := &wholeStore{Store: memstore.New(nil)}
	b := setupOn(t, store, webtrigger.RunnerFunc(func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		size, err := strconv.Atoi(task.Input.Message)
		return &webtrigger.Result{Text: strings.Repeat("x", size)}, err
	}), nil)
	_, bearer := newKey(t, b.svc, "1")
	session := b.svc.EventsHandler(func(*http.Request, webtrigger.Access) error { return webtrigger.ErrUnauthenticated })
	for _, c := range []struct {
		size  int
		reads int64
	}{{0, 0}, {webtrigger.MaxGrantResultBytes, 0}, {webtrigger.MaxGrantResultBytes + 1, 1}, {webtrigger.MaxResultBytes, 1}} {
		call := func(reads int64, status int, handler http.Handler, method, path, body string, header ...string) string {
			t.Helper()
			r := httptest.NewRequestWithContext(b.ctx, method, path, strings.NewReader(body))
			r.Header.Set("Authorization", bearer)
			r.Header.Set("Content-Type", "application/json")
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			w := httptest.NewRecorder()
			before := store.whole.Load()
			handler.ServeHTTP(unlimited{w}, r)
			require.Equal(t, status, w.Code, path)
			require.Equal(t, reads, store.whole.Load()-before, "%s of %d bytes", path, c.size)
			return w.Body.String()
		}
		body, key := `{"message":"`+strconv.Itoa(c.size)+`"}`, "key-"+strconv.Itoa(c.size)
		call(0, http.StatusAccepted, b.svc, "POST", triggerPath, body, "Idempotency-Key", key)
		runs, err := b.svc.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 1}})
		require.NoError(t, err)
		run := runs[0]
		require.NoError(t, b.svc.Execute(b.ctx, run.ID))
		before := store.whole.Load()
		require.NoError(t, b.svc.Execute(b.ctx, run.ID), "it has ended")
		_, err = b.svc.Runs(b.ctx, webtrigger.RunQuery{})
		require.NoError(t, err)
		require.Equal(t, before, store.whole.Load())

		trigger := "/api/v1/web-triggers/" + strconv.FormatInt(run.ConversationID, 10)
		want := `"result":"` + strings.Repeat("x", c.size) + `"`
		require.Contains(t, call(c.reads, http.StatusOK, b.svc, "GET", trigger+"/status", ""), want)
		require.Contains(t, call(c.reads, http.StatusOK, b.svc, "POST", trigger+"/cancel", ""), want)
		call(0, http.StatusAccepted, b.svc, "POST", triggerPath, body, "Idempotency-Key", key)
		require.Contains(t, call(c.reads, http.StatusOK, b.svc, "POST", triggerPath, body, "Idempotency-Key", key, "Prefer", "wait=5"), want)
		call(0, http.StatusOK, b.svc, "HEAD", trigger+"/events?run_id="+run.Key, "")
		path := "/conversations/" + strconv.FormatInt(run.ConversationID, 10) + "/agent-events"
		call(0, http.StatusUnauthorized, session, "GET", path, "")
	}
}

// A Host header is stored with the trigger, so it has a bound. A configured base URL
// makes it irrelevant.
func TestTrigger_longHost_isRejected(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "https://app.example.com"} {
		b := setupOn(t, memstore.New(nil), nil, &webtrigger.Options{BaseURL: base})
		_, bearer := newKey(t, b.svc, "1")
		for length, status := range map[int]int{260: http.StatusAccepted, 261: http.StatusBadRequest, 100_000: http.StatusBadRequest} {
			r := httptest.NewRequestWithContext(b.ctx, "POST", triggerPath, strings.NewReader(`{"message":"x"}`))
			r.Host = strings.Repeat("h", length)
			r.Header.Set("Authorization", bearer)
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			b.svc.ServeHTTP(w, r)
			if base != "" {
				status = http.StatusAccepted
			}
			require.Equal(t, status, w.Code)
			if status == http.StatusBadRequest {
				require.Contains(t, w.Body.String(), `"url_too_long"`)
				require.NotContains(t, w.Body.String(), "hhh")
				require.NotContains(t, b.svc.TriggerURL(r, "1"), "hhh")
			}
		}
	}
}
