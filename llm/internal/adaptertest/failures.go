package adaptertest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
)

// failures are errors inside a stream, and whether a later attempt may succeed.
var failures = []struct {
	Failure
	again bool
}{
	{Failure{400, "BadRequestError", "the prompt has too many tokens"}, false},
	{Failure{400, "invalid_request_error", "bad image"}, false},
	{Failure{401, "authentication_error", "no such key"}, false},
	{Failure{402, "insufficient_quota", "no credit"}, false},
	{Failure{403, "permission_error", "not for you"}, false},
	{Failure{404, "not_found_error", "no such model"}, false},
	{Failure{429, "rate_limit_error", "slow down"}, true},
	{Failure{500, "internal_server_error", "the model runner has crashed"}, true},
	{Failure{503, "service_unavailable_error", "no worker is free"}, true},
}

func streamErrors(t *testing.T, d Dialect) {
	for _, f := range failures {
		v := d.serve(t, func(w *modeltest.Wire) { d.Fail(w, f.Failure) })
		failure := v.Fail(t, modeltest.Hello())
		require.Equal(t, f.again, failure.Retryable, f.Message)
		require.Contains(t, failure.Detail, f.Message, "the vendor's text is for the log")
		require.NotContains(t, failure.Error(), f.Message)
		require.Contains(t, v.Log.String(), f.Message)
	}
}

// rejected plays the responses of proxies and of services to requests.
func rejected(t *testing.T, d Dialect) {
	for _, c := range []struct {
		turn  modeltest.Turn
		text  string
		again bool
	}{
		{modeltest.Reject(400, `{"error":{"message":"no"}}`), "400 Bad Request", false},
		{modeltest.Reject(413, `{}`), "413 Request Entity Too Large", false},
		{modeltest.Reject(429, `[{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED"}}]`), "429 Too Many Requests", true},
		{modeltest.Reject(429, `{"error":{"code":"insufficient_quota"}}`), "429 Too Many Requests (insufficient_quota)", false},
		{modeltest.Reject(503, `{"error":"model runner has stopped"}`), "503 Service Unavailable", true},
		{modeltest.Reject(529, `{}`), "529 Overloaded", true},
		{modeltest.Reject(529, `{}`, "X-Should-Retry", "false"), "529 Overloaded", false},
		{func(w *modeltest.Wire) { w.Plain(502, "text/html", "<html>Bad gateway</html>") }, "502 Bad Gateway", true},
		{func(w *modeltest.Wire) { w.Plain(200, "text/html", "<html>Log in</html>") }, "the answer is text/html, not an event stream", false},
		{modeltest.Reject(200, `{"error":{"message":"upstream","code":503}}`), "an error instead of an answer (503)", true},
		{modeltest.Reject(200, `{"hello":"world"}`), "the answer is application/json, not an event stream", false},
		{func(w *modeltest.Wire) { w.Raw("") }, "the stream ended before the answer was complete", true},
		{func(w *modeltest.Wire) { w.Event("", `{"choi`) }, "a malformed event", true},
		{func(w *modeltest.Wire) { w.Event("", `["hello"]`) }, "a malformed event", true},
		{func(w *modeltest.Wire) { w.Event("error", "upstream closed") }, "an error in the stream", true},
		{func(w *modeltest.Wire) { w.Raw(": hello\n\n"); w.Cut() }, "the connection was cut", true},
	} {
		failure := d.serve(t, c.turn).Fail(t, modeltest.Hello())
		require.ErrorContains(t, failure, c.text)
		require.Equal(t, c.again, failure.Retryable, c.text)
	}
}

// retries repeats failures that may pass, for as long as the vendor asks.
func retries(t *testing.T, d Dialect) {
	limit := func(after string) modeltest.Turn { return modeltest.Reject(429, `{}`, "Retry-After", after) }
	for name, c := range map[string]struct {
		turns       []modeltest.Turn
		least, most time.Duration
	}{
		"rate limits": {[]modeltest.Turn{limit("20"), limit("40")}, time.Minute, time.Minute + time.Second},
		"a date":      {[]modeltest.Turn{limit("Sat, 01 Jan 2000 00:05:00 GMT")}, 5 * time.Minute, 5*time.Minute + time.Second},
		"overloads":   {[]modeltest.Turn{modeltest.Reject(503, "{}"), modeltest.Reject(529, "{}"), modeltest.Reject(502, "{}")}, 1750 * time.Millisecond, 3500 * time.Millisecond},
		"cuts": {[]modeltest.Turn{
			func(w *modeltest.Wire) { w.Cut() },
			d.turn(Answer{Thinking: []string{"Hm."}, Then: (*modeltest.Wire).Cut}),
			d.turn(Answer{Calls: []Call{{"search", `{"q":1}`}}, Then: (*modeltest.Wire).Cut}), // a call is not shown before it is whole
		}, 1750 * time.Millisecond, 3500 * time.Millisecond},
		"an error":        {[]modeltest.Turn{func(w *modeltest.Wire) { d.Fail(w, Failure{503, "service_unavailable_error", "busy"}) }}, 250 * time.Millisecond, 500 * time.Millisecond},
		"a broken answer": {[]modeltest.Turn{d.turn(Answer{Reason: "error"})}, 250 * time.Millisecond, 500 * time.Millisecond},
		"silence":         {[]modeltest.Turn{func(w *modeltest.Wire) { w.Hang() }}, 5*time.Minute + 250*time.Millisecond, 5*time.Minute + 500*time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			v := d.pipe(t, new(llm.RetryOptions), append(c.turns, d.turn(Answer{Text: []string{"at ", "last"}}))...)
			began := time.Now()
			got := v.Must(t, modeltest.WithTools(modeltest.Hello()))
			require.Equal(t, "at last", got.Text, name)
			require.Empty(t, got.ToolCalls, name)
			took := time.Since(began)
			require.True(t, took >= c.least && took <= c.most, "%s took %v", name, took)
			require.Len(t, v.Requests(), len(c.turns)+1, name)
		})
	}
}

// noRetryAfterText fails after a part of the answer was shown.
func noRetryAfterText(t *testing.T, d Dialect) {
	if d.Document {
		return // nothing is shown before the answer is whole
	}
	for name, end := range map[string]func(w *modeltest.Wire){
		"cut":       (*modeltest.Wire).Cut,
		"malformed": func(w *modeltest.Wire) { w.Event("", "{") },
		"error":     func(w *modeltest.Wire) { d.Fail(w, Failure{503, "service_unavailable_error", "busy"}) },
	} {
		synctest.Test(t, func(t *testing.T) {
			v := d.pipe(t, new(llm.RetryOptions), d.turn(Answer{Text: []string{"half an ans"}, Then: end}), d.turn(Answer{Text: []string{"another"}}))
			got, err := v.Ask(t.Context(), modeltest.Hello())
			require.ErrorContains(t, err, "a part of the answer was streamed already", name)
			require.Equal(t, []string{"half an ans"}, got.Pieces)
			require.Len(t, v.Requests(), 1)
		})
	}
}

var errStopped = errors.New("cancelled by an operator")

// cancel ends a call at every place where it may wait, at once and with its cause.
func cancel(t *testing.T, d Dialect) {
	hang := (*modeltest.Wire).Hang
	for _, turn := range []modeltest.Turn{
		hang, // for headers
		func(w *modeltest.Wire) { w.Raw(": hello\n\n"); w.Hang() },
		func(w *modeltest.Wire) { w.Raw(`data: {"cho`); w.Hang() },
		func(w *modeltest.Wire) { w.Plain(503, "text/plain", "I am"); w.Raw(""); w.Hang() },
		d.turn(Answer{Text: []string{"a", "b"}, Then: hang}),
		d.turn(Answer{Calls: []Call{{"search", `{"q":1}`}}, Then: hang}),
		modeltest.Reject(503, "{}"),
		modeltest.Reject(429, "{}", "Retry-After", "600"),
	} {
		synctest.Test(t, func(t *testing.T) {
			retry := &llm.RetryOptions{MinDelay: time.Hour, MaxDelay: time.Hour}
			modeltest.Cancelled(t, d.pipe(t, retry, turn).Model, errStopped)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		client, stop := modeltest.NewNetwork().Silent()
		defer stop()
		c := Connection{BaseURL: "http://vendor.example", Client: client, Retry: new(llm.RetryOptions)}
		modeltest.Cancelled(t, d.connect(t, nil, c).Model, errStopped)
	})
}

// deadline ends calls with the cause of the context, and does not wait for a
// Retry-After beyond it.
func deadline(t *testing.T, d Dialect) {
	synctest.Test(t, func(t *testing.T) {
		v := d.pipe(t, new(llm.RetryOptions), func(w *modeltest.Wire) { w.Raw(": hello\n\n"); w.Hang() })
		ctx, stop := context.WithTimeoutCause(t.Context(), time.Minute, errStopped)
		defer stop()
		began := time.Now()
		_, err := v.Ask(ctx, modeltest.Hello())
		require.Equal(t, errStopped, err)
		require.Equal(t, time.Minute, time.Since(began))
	})
	synctest.Test(t, func(t *testing.T) {
		v := d.pipe(t, new(llm.RetryOptions), modeltest.Reject(429, "{}", "Retry-After", "3600"))
		ctx, stop := context.WithTimeout(t.Context(), 15*time.Minute)
		defer stop()
		began := time.Now()
		_, err := v.Ask(ctx, modeltest.Hello())
		require.ErrorContains(t, err, "429 Too Many Requests (no time left for another attempt)")
		require.Zero(t, time.Since(began))
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// redirect is a response like any other: the key goes nowhere else.
func redirect(t *testing.T, d Dialect) {
	var asked []string
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Host)
		return &http.Response{StatusCode: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"https://elsewhere.example" + r.URL.Path}}, Body: http.NoBody, Request: r}, nil
	})}
	v := d.connect(t, nil, Connection{BaseURL: "https://vendor.example", Client: client, Retry: &llm.RetryOptions{MaxAttempts: 1}})
	require.ErrorContains(t, v.Fail(t, modeltest.Hello()), "307 Temporary Redirect")
	require.Equal(t, []string{"vendor.example"}, asked)
}

// callerStops returns the error of the caller's function.
func callerStops(t *testing.T, d Dialect) {
	then := (*modeltest.Wire).Hang
	if d.Document {
		then = nil
	}
	v := d.serve(t, d.turn(Answer{Text: []string{"a", "b"}, Then: then}))
	_, err := v.Model.Generate(t.Context(), modeltest.Hello(), func(llm.Chunk) error { return errStopped })
	require.Equal(t, errStopped, err)
}

// tooLarge sends thinking, text and calls that exceed the limit, 4 MiB, together only:
// each of them counts.
func tooLarge(t *testing.T, d Dialect) {
	half := strings.Repeat("x", 1<<19)
	call := Call{"search", `{"q":"` + half + `"}`}
	failure := d.serve(t, d.turn(Answer{
		Thinking: []string{half, half, half}, Text: []string{half, half, half}, Calls: []Call{call, call, call},
	})).Fail(t, modeltest.WithTools(modeltest.Hello()))
	require.ErrorContains(t, failure, "the answer is too large")
	require.False(t, failure.Retryable)
}

// wrongKey connects to a fake that rejects the key and repeats it.
func wrongKey(t *testing.T, d Dialect) {
	fake := modeltest.NewServer(func(r *http.Request, _ map[string]any) *modeltest.Rejection {
		return &modeltest.Rejection{Status: 401, Document: map[string]any{"error": map[string]any{
			"type": "authentication_error", "message": "bad key " + r.Header.Get("Authorization") + r.Header.Get("X-Api-Key") + r.Header.Get("Api-Key"),
		}}}
	})
	client, stop := modeltest.NewNetwork().Serve(fake)
	defer stop()
	v := d.connect(t, fake, Connection{BaseURL: "http://vendor.example", Client: client, Retry: &llm.RetryOptions{MaxAttempts: 1}})
	failure := v.Fail(t, modeltest.Hello()) // and looks for the key
	require.ErrorContains(t, failure, "401 Unauthorized (authentication_error)")
	require.Contains(t, failure.Detail, "[API key]")
	require.False(t, failure.Retryable)
}
