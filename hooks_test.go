package webtrigger_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

const (
	outerTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	innerTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-aaaaaaaaaaaaaaaa-01"
)

// diary writes down what hooks tell.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) write(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.lines...)
}

type spanName struct{}

func (d *diary) hooks() webtrigger.Hooks {
	in := func(ctx context.Context) any { return ctx.Value(spanName{}) }
	return webtrigger.Hooks{
		Request: func(r *http.Request, route string) (context.Context, func(int)) {
			d.write("request %s", route)
			return context.WithValue(r.Context(), spanName{}, "request"), func(status int) { d.write("answered %d", status) }
		},
		TraceParent: func(ctx context.Context) string {
			if in(ctx) == "request" {
				return innerTrace
			}
			return ""
		},
		Accepted: func(ctx context.Context, run webtrigger.Run, replayed bool) {
			d.write("accepted %d %v in %v", run.ID, replayed, in(ctx))
		},
		Run: func(ctx context.Context, run webtrigger.Run) (context.Context, func(webtrigger.Run)) {
			d.write("run %d %s %s", run.ID, run.Status, run.TraceParent)
			return context.WithValue(ctx, spanName{}, "run"), func(run webtrigger.Run) { d.write("run over %d %s", run.ID, run.Status) }
		},
		Ended: func(ctx context.Context, run webtrigger.Run) {
			d.write("ended %d %s in %v", run.ID, run.Status, in(ctx))
		},
		Abandoned: func(run webtrigger.Run) func() {
			d.write("abandoned %d", run.ID)
			return func() { d.write("returned %d", run.ID) }
		},
		Callback: func(ctx context.Context, delivery webtrigger.Delivery, run webtrigger.Run) (context.Context, func(webtrigger.DeliveryOutcome)) {
			d.write("callback %d of %d", delivery.ID, run.ID)
			return nil, func(o webtrigger.DeliveryOutcome) { d.write("callback %s", o.State) }
		},
		Stream: func(_ context.Context, conversationID int64) func() {
			d.write("stream %d", conversationID)
			return func() { d.write("stream closed") }
		},
	}
}

func TestHooksTellTheLifeOfATrigger(t *testing.T) {
	t.Parallel()
	url, roots, got := receiver(t, http.StatusOK)
	var d diary
	inRunner := make(chan any, 1)
	b := setup(t, webtrigger.RunnerFunc(func(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		inRunner <- ctx.Value(spanName{})
		return &webtrigger.Result{Text: "done"}, nil
	}), &webtrigger.Options{
		BaseURL: "https://app.example.com", Hooks: d.hooks(),
		Callback: webtrigger.CallbackOptions{Allow: loopback(), RootCAs: roots},
	})
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "k")
		r.Header.Set("traceparent", outerTrace)
		w := httptest.NewRecorder()
		b.svc.ServeHTTP(w, r)
		return w
	}
	body := `{"message":"go","callback_url":"` + url + `"}`
	require.Equal(t, http.StatusAccepted, ask("POST", "/api/v1/assistants/1/web-trigger", body).Code)
	require.Equal(t, http.StatusAccepted, ask("POST", "/api/v1/assistants/1/web-trigger", body).Code)
	require.NoError(t, b.svc.Execute(b.ctx, 1))
	require.Equal(t, "run", <-inRunner)
	stop := b.work()
	cb := <-got
	require.Equal(t, []string{innerTrace}, cb.header["Traceparent"], "the run's own goes on")
	b.delivered(1)
	stop()
	server := httptest.NewServer(b.svc) // a recorder has no write deadlines
	defer server.Close()
	r, err := http.NewRequest("GET", server.URL+"/api/v1/web-triggers/1/events", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+secret)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode, "streams pass through the writer that remembers the status")
	require.Eventually(t, func() bool { lines := d.read(); return lines[len(lines)-1] == "answered 200" }, time.Minute, time.Millisecond)
	require.Equal(t, http.StatusNotFound, ask("GET", "/nowhere", "").Code)
	require.Equal(t, []string{
		"request /api/v1/assistants/{assistant_id}/web-trigger",
		"accepted 1 false in request",
		"answered 202",
		"request /api/v1/assistants/{assistant_id}/web-trigger",
		"accepted 1 true in request",
		"answered 202",
		"run 1 running " + innerTrace,
		"ended 1 completed in run",
		"run over 1 completed",
		"callback 1 of 1",
		"callback delivered",
		"request /api/v1/web-triggers/{trigger_id}/events",
		"stream 1",
		"stream closed",
		"answered 200",
		"request ",
		"answered 404",
	}, d.read())
}

// Every run ends once for the hook, also those that no worker ended.
func TestEndedTellsOfRunsThatNoWorkerEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		b := setup(t, nil, &webtrigger.Options{
			BaseURL: "https://app.example.com", MaxQueueTime: time.Minute,
			Hooks: webtrigger.Hooks{Ended: d.hooks().Ended, Abandoned: d.hooks().Abandoned},
		})
		b.fake = true
		b.trigger("say x")
		for range 2 {
			_, err := b.svc.CancelRun(b.ctx, 1, "")
			require.NoError(t, err)
		}
		b.trigger("say y")
		time.Sleep(2 * time.Minute) // of the bubble
		require.Equal(t, []string{"ended 1 cancelled in <nil>"}, d.read())
		_, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{Worker: "w", Lease: time.Second, Limit: 1})
		require.NoError(t, err)
		stop := b.work()
		time.Sleep(time.Minute)
		run := b.trigger("ignore")
		time.Sleep(time.Second)
		_, err = b.svc.CancelRun(b.ctx, run.ID, "")
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		stop()
		require.Equal(t, []string{
			"ended 1 cancelled in <nil>", "ended 2 timed_out in <nil>",
			"ended 3 cancelled in <nil>", "abandoned 3", "returned 3",
		}, d.read())
	})
}

// Without hooks a sane traceparent is kept on the run and sent with its callback.
func TestTraceParentIsKeptAndSentOn(t *testing.T) {
	t.Parallel()
	url, roots, got := receiver(t, http.StatusOK)
	b := setup(t, nil, &webtrigger.Options{
		BaseURL: "https://app.example.com", Callback: webtrigger.CallbackOptions{Allow: loopback(), RootCAs: roots},
	})
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	stop := b.work()
	defer stop()
	for i, test := range []struct {
		sent []string
		kept string
	}{
		{nil, ""},
		{[]string{outerTrace}, outerTrace},
		{[]string{outerTrace, innerTrace}, ""},
		{[]string{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"}, ""},
		{[]string{strings.ToUpper(outerTrace)}, ""},
		{[]string{outerTrace + "-more"}, ""},
		{[]string{"ff" + outerTrace[2:]}, ""},
		{[]string{"cc" + outerTrace[2:] + "-more"}, "cc" + outerTrace[2:] + "-more"},
		{[]string{"cc" + outerTrace[2:] + "more"}, ""},
		{[]string{"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01"}, ""},
		{[]string{"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"}, ""},
		{[]string{strings.Replace(outerTrace, "-", "_", 1)}, ""},
	} {
		r := httptest.NewRequest("POST", "/api/v1/assistants/1/web-trigger", strings.NewReader(`{"message":"x","callback_url":"`+url+`"}`))
		r.Header = http.Header{"Authorization": {"Bearer " + secret}, "Content-Type": {"application/json"}, "Traceparent": test.sent}
		w := httptest.NewRecorder()
		b.svc.ServeHTTP(w, r)
		require.Equal(t, http.StatusAccepted, w.Code, w.Body)
		require.Equal(t, test.kept, b.run(int64(i+1)).TraceParent, "%q", test.sent)
		require.Equal(t, test.kept, (<-got).header.Get("traceparent"), "%q", test.sent)
	}
	run, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x", TraceParent: "no\r\nsuch: thing"})
	require.NoError(t, err)
	require.Empty(t, run.TraceParent)
}
