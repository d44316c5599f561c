package webtrigger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// limited is a bundle with limits and an API key of assistant 1.
func limited(t *testing.T, limits webtrigger.Limits) (b *bundle, secret string) {
	t.Helper()
	b = setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", Limits: limits, Workers: 1})
	b.fake = true
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	return b, secret
}

// post triggers assistant 1 over HTTP.
func (b *bundle) post(secret, message string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(b.ctx, http.MethodPost, triggerPath, strings.NewReader(`{"message":"`+message+`"}`))
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	b.svc.ServeHTTP(w, r)
	return w
}

// A bucket fills evenly: a token a third of the window, and no more than three.
func TestRateFillsEvenly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, secret := limited(t, webtrigger.Limits{TriggersPerKey: 3})
		passes := func(n int, retryAfter string) {
			t.Helper()
			for range n {
				require.Equal(t, http.StatusAccepted, b.post(secret, "say x").Code)
			}
			w := b.post(secret, "say x")
			require.Equal(t, http.StatusTooManyRequests, w.Code)
			require.Equal(t, retryAfter, w.Header().Get("Retry-After"))
			require.Equal(t, `"key";r=0;t=`+retryAfter, w.Header().Get("RateLimit"))
			require.Equal(t, `"key";q=3;w=60`, w.Header().Get("RateLimit-Policy"))
		}
		passes(3, "20")
		time.Sleep(500 * time.Millisecond)
		passes(0, "20") // rounded up: a caller that waits is not rejected again
		time.Sleep(19 * time.Second)
		passes(0, "1")
		time.Sleep(500 * time.Millisecond)
		passes(1, "20")
		time.Sleep(50 * time.Second)
		passes(2, "10")
		time.Sleep(time.Hour)
		w := b.post(secret, "say x")
		require.Equal(t, `"key";r=2;t=20`, w.Header().Get("RateLimit"))
		time.Sleep(5 * time.Second)
		require.Equal(t, `"key";r=1;t=15`, b.post(secret, "say x").Header().Get("RateLimit"))
		passes(1, "15")
	})
}

// Triggers that come at once do not pass the limit together.
func TestRateOfSimultaneousTriggers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, secret := limited(t, webtrigger.Limits{TriggersPerKey: 10, Window: time.Hour})
		codes := make([]int, 100)
		var done sync.WaitGroup
		for i := range codes {
			done.Go(func() { codes[i] = b.post(secret, "say "+strconv.Itoa(i)).Code })
		}
		done.Wait()
		accepted := 0
		for _, code := range codes {
			if code == http.StatusAccepted {
				accepted++
			}
		}
		require.Equal(t, 10, accepted)
		state, err := b.svc.QueueState(b.ctx)
		require.NoError(t, err)
		require.Equal(t, 10, state.Queued)
	})
}

// blindStore finds no request that stood already before it stores.
type blindStore struct{ webtrigger.Store }

func (blindStore) Replay(context.Context, string, webtrigger.Idempotency) (webtrigger.Run, error) {
	return webtrigger.Run{}, webtrigger.ErrNotFound
}

// A copy that turns out to be one only when it is stored is not counted either.
func TestRateDoesNotCountReplays(t *testing.T) {
	t.Parallel()
	b := setupOn(t, blindStore{memstore.New(nil)}, nil, &webtrigger.Options{Limits: webtrigger.Limits{TriggersPerKey: 3, Window: time.Hour}})
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	for range 10 {
		r := httptest.NewRequestWithContext(b.ctx, http.MethodPost, triggerPath, strings.NewReader(`{"message":"x"}`))
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "k")
		w := httptest.NewRecorder()
		b.svc.ServeHTTP(w, r)
		require.Equal(t, http.StatusAccepted, w.Code)
	}
	require.Equal(t, `"key";r=1;t=1200`, b.post(secret, "x").Header().Get("RateLimit"))
}

// A trigger that the host makes has no rate, but a place in the queue; a run that
// is executed at once needs none.
func TestQueueLimitHoldsForEveryTrigger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, secret := limited(t, webtrigger.Limits{TriggersPerKey: 1, QueuedPerAssistant: 2})
		b.trigger("hang")
		b.trigger("hang")
		_, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x"})
		require.ErrorIs(t, err, webtrigger.ErrQueueFull)
		_, err = b.svc.TriggerVia(b.ctx, b.store, "1", webtrigger.TriggerRequest{Message: "x"})
		require.ErrorIs(t, err, webtrigger.ErrQueueFull)
		r := httptest.NewRequestWithContext(b.ctx, http.MethodPost, "/", strings.NewReader(`{"message":"x"}`))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		b.svc.ServeTrigger(w, r, "1")
		require.Equal(t, http.StatusTooManyRequests, w.Code)
		require.Contains(t, w.Body.String(), `"code":"queue_full"`)

		defer b.work()() // takes the first one
		require.Equal(t, http.StatusAccepted, b.post(secret, "hang").Code)
		_, err = b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x"})
		require.ErrorIs(t, err, webtrigger.ErrQueueFull)
	})
}

func TestRunThatIsTakenAtAcceptNeedsNoPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := limited(t, webtrigger.Limits{QueuedPerAssistant: 1})
		defer b.work()()
		running := b.trigger("hang")
		require.Equal(t, webtrigger.RunRunning, b.run(running.ID).Status)
		b.trigger("hang") // waits
		_, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x"})
		require.ErrorIs(t, err, webtrigger.ErrQueueFull)
		_, err = b.svc.CancelRun(b.ctx, running.ID, "")
		require.NoError(t, err)
		synctest.Wait()
		b.trigger("hang")
	})
}

// An idempotency record is kept for a day from trigger creation, regardless of replays.
// Afterwards the same request creates a new trigger.
func TestIdempotencyKey_afterOneDay_createsNewTrigger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil, nil)
		_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
		require.NoError(t, err)
		post := func(body string) (*httptest.ResponseRecorder, bool) {
			r := httptest.NewRequestWithContext(b.ctx, http.MethodPost, triggerPath, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+secret)
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Idempotency-Key", "k")
			w := httptest.NewRecorder()
			b.svc.ServeHTTP(w, r)
			return w, w.Header().Get("Idempotent-Replayed") == "true"
		}
		first, replayed := post(`{"message":"x"}`)
		require.False(t, replayed)
		for range 3 {
			time.Sleep(8*time.Hour - time.Microsecond)
			again, replayed := post(`{"message":"x"}`)
			require.True(t, replayed)
			require.Equal(t, first.Body.String(), again.Body.String())
			refused, _ := post(`{"message":"y"}`)
			require.Equal(t, http.StatusUnprocessableEntity, refused.Code)
		}
		time.Sleep(3 * time.Microsecond)
		next, replayed := post(`{"message":"y"}`)
		require.Equal(t, http.StatusAccepted, next.Code)
		require.False(t, replayed)
		require.Contains(t, next.Body.String(), `"trigger_id":2,`)
	})
}

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

// channelStore calls read when its channel is read.
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

// If a client resets its requests, their creations continue. Their number for each key is
// bounded. Requests with other keys are not affected.
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

// The id of an assistant may look like a part of the path.
func TestTrigger_assistantNamedLikeThePath_buildsURLsOnItsMount(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/hooks/assistants/assistants/web-trigger":       "http://example.com/hooks/web-triggers/1/status",
		"/assistants/my-assistants/web-trigger":          "http://example.com/web-triggers/1/status",
		"/assistants/assistants/1/web-trigger":           "http://example.com/assistants/web-triggers/1/status",
		"http://example.com/v2/assistants/1/web-trigger": "http://example.com/v2/web-triggers/1/status",
	} {
		svc, err := webtrigger.New(memstore.New(nil), nil, &webtrigger.Options{NoWorkers: true})
		require.NoError(t, err)
		id := strings.Split(strings.TrimSuffix(path, "/web-trigger"), "/")
		assistant := id[len(id)-1]
		require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: assistant, Enabled: true}))
		_, plaintext, err := svc.CreateKey(t.Context(), assistant, webtrigger.KeySpec{Name: "test"})
		require.NoError(t, err)
		for _, stripped := range []bool{false, true} {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"message":"x"}`))
			r.Header.Set("Authorization", "Bearer "+plaintext)
			r.Header.Set("Content-Type", "application/json")
			if stripped { // as http.StripPrefix with a slash at the end of its prefix leaves it
				r.URL.Path = "assistants/" + assistant + "/web-trigger"
			}
			w := httptest.NewRecorder()
			svc.ServeHTTP(w, r)
			require.Equal(t, http.StatusAccepted, w.Code, w.Body)
			if !stripped {
				require.Equal(t, want, w.Header().Get("Location"))
			}
			r = r.Clone(t.Context())
			r.RequestURI, r.Body = "", io.NopCloser(strings.NewReader(`{"message":"x"}`))
			svc.ServeHTTP(httptest.NewRecorder(), r) // no request line: must not panic
		}
	}
}

// HTTP/2 and a router that rewrites paths may leave a space in the path. The stored
// form of the bases separates them by a space.
func TestTrigger_spaceInTheMount_buildsEscapedURLs(t *testing.T) {
	t.Parallel()
	const rewritten = "/my hooks/assistants/1/web-trigger"
	for name, requestLine := range map[string]string{"sent": rewritten, "rewritten": "/t/1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			svc, err := webtrigger.New(memstore.New(nil), nil, &webtrigger.Options{NoWorkers: true})
			require.NoError(t, err)
			require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
			_, plaintext, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "test"})
			require.NoError(t, err)
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"message":"x"}`))
			r.Header.Set("Authorization", "Bearer "+plaintext)
			r.Header.Set("Content-Type", "application/json")
			r.RequestURI, r.URL.Path = requestLine, rewritten
			w := httptest.NewRecorder()
			svc.ServeHTTP(w, r)
			require.Equal(t, http.StatusAccepted, w.Code, w.Body)
			require.Equal(t, "http://example.com/my%20hooks/web-triggers/1/status", w.Header().Get("Location"))
			run, err := svc.RunByID(t.Context(), 1)
			require.NoError(t, err)
			require.Equal(t, "http://example.com/conversations/1/agent-events?run_id=1", run.EventsURL())
		})
	}
}

func TestTrigger_mountThatURLsDoNotLeadTo_logsRemedyOnce(t *testing.T) {
	t.Parallel()
	for path, lines := range map[string]int{
		"/api/v1/assistants/1/web-trigger":    0,
		"/wt/api/v1/assistants/1/web-trigger": 0, // a proxy may remove the prefix
		"/v1/assistants/1/web-trigger":        0, // or add one
		"/hooks/v2/assistants/1/web-trigger":  1,
	} {
		var log bytes.Buffer
		svc, err := webtrigger.New(memstore.New(nil), nil, &webtrigger.Options{
			NoWorkers: true, BaseURL: "https://app.example.com", Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
		_, plaintext, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "test"})
		require.NoError(t, err)
		for range 2 {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"message":"x"}`))
			r.Header.Set("Authorization", "Bearer "+plaintext)
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			svc.ServeHTTP(w, r)
			require.Equal(t, http.StatusAccepted, w.Code, w.Body)
		}
		require.Equal(t, lines, strings.Count(log.String(), "trigger URLs do not lead to the handler"), path)
	}
}

// Over HTTP/2, Go's server passes any text on as the host. One with a space would be read as two
// bases, and Postgres stores no invalid UTF-8.
func TestTrigger_invalidHost_isRejected(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, &webtrigger.Options{})
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	for host, status := range map[string]int{
		"app.example.com": 202, "app.example.com:8443": 202, "[2001:db8::1]:8443": 202, "a_b": 202,
		"a b": 400, "a\xff": 400, "a\x00": 400, "é.example": 400, "a/b": 400, "a@b": 400, `a"`: 400, "<a>": 400, "a?b": 400, "a#b": 400,
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", triggerPath, strings.NewReader(`{"message":"x"}`))
		r.Host = host
		r.Header = http.Header{"Authorization": {"Bearer " + secret}, "Content-Type": {"application/json"}}
		w := httptest.NewRecorder()
		b.svc.ServeHTTP(w, r)
		require.Equal(t, status, w.Code, host)
	}
}

// A Task is the Runner's own: what the Runner changes in it is not visible outside, and what the
// host does with its buffers after Trigger changes nothing in it.
func TestTask_changedByItsRunnerOrTheHost_isACopy(t *testing.T) {
	var metadata string
	var outcome webtrigger.Run
	begin := make(chan struct{})
	runner := func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		<-begin
		metadata = string(task.Input.Metadata)
		task.Definition.Name, task.Definition.AllowedTools[0] = "changed", "changed"
		return &webtrigger.Result{}, nil
	}
	hooks := webtrigger.Hooks{Run: func(ctx context.Context, _ webtrigger.RunInfo) (context.Context, func(webtrigger.RunOutcome)) {
		return ctx, func(o webtrigger.RunOutcome) { outcome = o.Run }
	}}
	bubble(t, runner, webtrigger.Options{Hooks: hooks}, func(b *bundle) {
		task, err := b.svc.CreateTaskDefinition(b.ctx, webtrigger.TaskDefinition{
			AssistantID: "1", Name: "n", Instructions: "i", Active: true, AllowedTools: []string{"search"},
		})
		require.NoError(t, err)
		stop := b.work()
		buffer := []byte(`{"n":1}`)
		run, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x", TaskDefinitionID: task.ID, Metadata: buffer})
		require.NoError(t, err)
		require.Equal(t, webtrigger.RunRunning, run.Status, "claimed in its creation")
		copy(buffer, "reused!")
		close(begin)
		synctest.Wait()
		stop()
		require.Equal(t, `{"n":1}`, metadata)
		require.Equal(t, &task, run.TaskDefinition)
		require.Equal(t, &task, outcome.TaskDefinition)
	})
}

// A body is either rejected or has the meaning that encoding/json reads from it.
func FuzzTriggerBody(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `[]`, `null`, `{"message": "x"}`, `{"message": "x", "subject": null, "context": {"a": 1e22}}`,
		`{"message": "\ud83d\ude00", "metadata": [-0, "\u00e9"], "task_definition_id": 9223372036854775807}`,
		`{"message": "x", "message": "y"}`, `{"message": "\ud800"}`, `{"Message": "x"}`, `{"message": "x"} x`,
		`{"message": "x", "callback_url": ""}`, `{"message": "a\u0000"}`, "\xef\xbb\xbf{}", `{"message": "` + strings.Repeat("é", 300) + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		req, faults, err := webtrigger.DecodeTrigger(body)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.True(t, json.Valid(body) && utf8.Valid(body), "malformed JSON was taken")
		if len(faults) > 0 {
			return
		}
		var plain struct {
			Message          string          `json:"message"`
			Subject          *string         `json:"subject"`
			Context          json.RawMessage `json:"context"`
			TaskDefinitionID *int64          `json:"task_definition_id"`
			CallbackURL      *string         `json:"callback_url"`
			Metadata         json.RawMessage `json:"metadata"`
		}
		require.NoError(t, json.Unmarshal(body, &plain))
		require.Equal(t, plain.Message, req.Message)
		require.Equal(t, value(plain.Subject), req.Subject)
		require.Equal(t, value(plain.CallbackURL), req.CallbackURL)
		require.Equal(t, value(plain.TaskDefinitionID), req.TaskDefinitionID)
		require.Equal(t, raw(plain.Metadata), string(req.Metadata))
		require.Equal(t, raw(plain.Context), string(req.Context))
		require.NotContains(t, req.Message, "\x00")
	})
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// raw is a member as it is kept: null means absent.
func raw(m json.RawMessage) string {
	if string(m) == "null" {
		return ""
	}
	return string(m)
}

// Only 64 lowercase hex characters after one Bearer make a key.
func FuzzAuthorization(f *testing.F) {
	key := strings.Repeat("0123456789abcdef", 4)
	for _, seed := range []string{"", "Bearer", "Bearer " + key, "bearer  " + key, "Basic " + key, "Bearer " + key + "0",
		"Bearer " + strings.ToUpper(key), "Bearer\t" + key, "Bearer " + key + " x"} {
		f.Add(seed, "")
	}
	f.Add("Bearer "+key, "Bearer "+key)
	shape := regexp.MustCompile(`^(?i:bearer) +[0-9a-f]{64} *$`)
	f.Fuzz(func(t *testing.T, first, second string) {
		headers := []string{first}
		if second != "" {
			headers = append(headers, second)
		}
		_, sent, ok := webtrigger.BearerKey(headers)
		require.Equal(t, len(headers) == 1 && shape.MatchString(first), ok)
		if ok {
			require.True(t, sent)
		}
	})
}

// A cursor is a non-negative 64-bit decimal.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", "0", "1", "-1", "+1", "01", "9223372036854775807", "9223372036854775808", " 1", "1_0", "0x1", "1e3", "٣"} {
		f.Add(seed)
	}
	digits := regexp.MustCompile(`^[0-9]+$`)
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := webtrigger.ParseCursor(s)
		want, err := strconv.ParseInt(s, 10, 64)
		require.Equal(t, digits.MatchString(s) && err == nil, ok)
		if ok {
			require.Equal(t, want, n)
		}
	})
}

// What an assistant sees begins with the message, and each pair of the context
// has one line.
func FuzzPrompt(f *testing.F) {
	f.Add("hello", `{"a": "b", "c": [1, 2]}`)
	f.Add("hello", `{"a": "x\ny: z", "line\nbreak": {"p":  "q"}, " outer ": " white "}`)
	f.Add("", `{"a": "\u0085\u2028"}`)
	f.Fuzz(func(t *testing.T, message, context string) {
		var pairs map[string]json.RawMessage
		_, faults, err := webtrigger.DecodeTrigger([]byte(`{"message": "x", "context": ` + context + `}`))
		if err != nil || len(faults) > 0 || json.Unmarshal([]byte(context), &pairs) != nil || pairs == nil {
			return
		}
		prompt := webtrigger.Prompt(message, []byte(context))
		rest, ok := strings.CutPrefix(prompt, message)
		require.True(t, ok)
		if len(pairs) == 0 {
			require.Empty(t, rest)
			return
		}
		rest, ok = strings.CutPrefix(rest, "\n\nContext:\n")
		require.True(t, ok)
		for _, v := range pairs { // nested values are as they were sent
			if s := string(v); s[0] != '"' && strings.ContainsAny(s, "\u0085\u2028\u2029\v\f") {
				return
			}
		}
		lines := strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune("\n\r\v\f\u0085\u2028\u2029", r) })
		require.Len(t, lines, len(pairs))
	})
}

func TestValuesFromGoMeetTheRulesOfTheIntake(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	for _, bad := range []string{`1,"x":2`, `{"a":1,"a":2}`, `{`, ``, `"\ud800"`, `{"a":"\u0000"}`, `{} {}`} {
		for _, req := range []webtrigger.TriggerRequest{
			{Message: "x", Metadata: json.RawMessage(bad)}, {Message: "x", Context: json.RawMessage(bad)},
		} {
			_, err := b.svc.Trigger(b.ctx, "1", req)
			var refused *webtrigger.RequestError
			require.True(t, errors.As(err, &refused), "%s: %v", bad, err)
		}
	}
}
