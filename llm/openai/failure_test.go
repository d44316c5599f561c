package openai_test

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
	"github.com/webtrigger-go/webtrigger/llm/openai"
)

// What goes wrong, as the vendor tells it, and what it is called here.
func TestFailures(t *testing.T) {
	t.Parallel()
	overloaded := modeltest.OpenAIError("server_error", "", "", "The server is overloaded")
	for name, c := range map[string]struct {
		turn   modeltest.Turn
		text   string
		detail string
		again  bool
		after  time.Duration
	}{
		"rate limit": {turn: modeltest.Refuse(429, modeltest.OpenAIError("requests", "rate_limit_exceeded", "", "Rate limit reached for gpt in organization org-1"), "Retry-After", "20", "X-Request-Id", "req_9"),
			text: "openai: 429 Too Many Requests (rate_limit_exceeded)", detail: "Rate limit reached for gpt in organization org-1, request req_9", again: true, after: 20 * time.Second},
		"rate limit in milliseconds": {turn: modeltest.Refuse(429, modeltest.OpenAIError("tokens", "rate_limit_exceeded", "", "slow"), "Retry-After", "1", "Retry-After-Ms", "350"),
			text: "openai: 429 Too Many Requests (rate_limit_exceeded)", detail: "slow", again: true, after: 350 * time.Millisecond},
		"no quota": {turn: modeltest.Refuse(429, modeltest.OpenAIError("insufficient_quota", "insufficient_quota", "", "You exceeded your current quota"), "Retry-After", "20"),
			text: "openai: 429 Too Many Requests (insufficient_quota)", detail: "You exceeded your current quota"},
		"overload":     {turn: modeltest.Refuse(503, overloaded), text: "openai: 503 Service Unavailable (server_error)", detail: "The server is overloaded", again: true},
		"server error": {turn: modeltest.Refuse(500, overloaded), text: "openai: 500 Internal Server Error (server_error)", detail: "The server is overloaded", again: true},
		"a proxy's page": {turn: func(w *modeltest.Wire) { w.Plain(502, "text/html", "<html>Bad gateway</html>") },
			text: "openai: 502 Bad Gateway", detail: "<html>Bad gateway</html>", again: true},
		"an error that is a string": {turn: modeltest.Refuse(500, `{"error":"model runner has stopped"}`),
			text: "openai: 500 Internal Server Error", detail: "model runner has stopped", again: true},
		"too long": {turn: modeltest.Refuse(400, modeltest.OpenAIError("invalid_request_error", "context_length_exceeded", "messages", "maximum context length is 8192 tokens")),
			text: "openai: 400 Bad Request (context_length_exceeded)", detail: "maximum context length is 8192 tokens, param messages"},
		"a page with 200": {turn: func(w *modeltest.Wire) { w.Plain(200, "text/html; charset=utf-8", "<html>Log in</html>") },
			text: "openai: the answer is text/html, not an event stream", detail: "<html>Log in</html>"},
		"an error with 200": {turn: modeltest.Refuse(200, `{"error":{"message":"upstream","code":503}}`),
			text: "openai: an error instead of an answer (503)", detail: "upstream", again: true},
		"malformed chunk": {turn: modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Role(); o.Event("", `{"choices":[{"delta":{"con`) }),
			text: "openai: a malformed event", again: true},
		"chunk of another type": {turn: modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Role(); o.Event("", `"hello"`); o.Event("", `[]`) }),
			text: "openai: a malformed event", again: true},
		"cut":          {turn: modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Role(); o.Cut() }), text: "openai: the connection was cut", again: true},
		"early end":    {turn: modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Role() }), text: "openai: the stream ended before the answer was complete", again: true},
		"early DONE":   {turn: modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Role(); o.Event("", "[DONE]") }), text: "openai: the stream ended before the answer was complete", again: true},
		"empty stream": {turn: modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Raw("") }), text: "openai: the stream ended before the answer was complete", again: true},
		"half a chunk": {turn: modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Role(); o.Raw(`data: {"choices":[{"del`) }),
			text: "openai: a malformed event", again: true},
		"error in the stream": {turn: modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Role(); o.Event("error", overloaded) }),
			text: "openai: an error in the stream (server_error)", detail: "The server is overloaded", again: true},
		"error of an unknown kind in the stream": {turn: modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Event("", `{"error":{"message":"Provider disconnected","code":502}}`) }),
			text: "openai: an error in the stream (502)", detail: "Provider disconnected", again: true},
		"final error in the stream": {turn: modeltest.OpenAITurn(func(o modeltest.OpenAI) {
			o.Event("", modeltest.OpenAIError("invalid_request_error", "", "", "bad image"))
		}), text: "openai: an error in the stream (invalid_request_error)", detail: "bad image"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := serve(t, nil, c.turn)
			failure := v.Fail(t, modeltest.Hello())
			require.EqualError(t, failure, c.text)
			require.Equal(t, c.again, failure.Retryable)
			require.Equal(t, c.after, failure.RetryAfter)
			if c.detail != "" {
				require.Equal(t, c.detail, failure.Detail)
			}
			require.Contains(t, v.Log.String(), "model call failed")
		})
	}
}

// Refusals of the fake server itself, which judges as the vendor does.
func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	failure := serve(t, &openai.Options{Model: "no-such-model"}).Fail(t, modeltest.Hello())
	require.EqualError(t, failure, "openai: 404 Not Found (model_not_found)")
	require.False(t, failure.Retryable)

	fake := modeltest.NewOpenAI("another key")
	client, stop := modeltest.NewNetwork().Serve(fake)
	defer stop()
	v := connect(t, fake, client, "http://openai.example/v1", nil)
	failure = v.Fail(t, modeltest.Hello()) // the server repeats the key; fail looks for it
	require.EqualError(t, failure, "openai: 401 Unauthorized (invalid_api_key)")
	require.Equal(t, "Incorrect API key provided: [API key].", failure.Detail)
	require.Contains(t, v.Log.String(), "Incorrect API key provided: [API key].")
	require.False(t, failure.Retryable)
}

// What may pass is tried again, when the vendor says, until there is an answer.
func TestRetries(t *testing.T) {
	t.Parallel()
	limit := modeltest.OpenAIError("requests", "rate_limit_exceeded", "", "slow down")
	for name, c := range map[string]struct {
		turns       []modeltest.Turn
		least, most time.Duration
	}{
		"rate limits": {[]modeltest.Turn{modeltest.Refuse(429, limit, "Retry-After", "20"), modeltest.Refuse(429, limit, "Retry-After", "40")}, time.Minute, time.Minute + time.Second},
		"a date":      {[]modeltest.Turn{modeltest.Refuse(429, limit, "Retry-After", "Sat, 01 Jan 2000 00:05:00 GMT")}, 5 * time.Minute, 5*time.Minute + time.Second},
		"overloads":   {[]modeltest.Turn{modeltest.Refuse(503, "{}"), modeltest.Refuse(500, "{}"), modeltest.Refuse(502, "{}")}, 1750 * time.Millisecond, 3500 * time.Millisecond},
		"cuts": {[]modeltest.Turn{
			modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Cut() }),
			modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Role(); o.Cut() }),
			modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Call(0, "call_1", "search"); o.Arguments(0, `{"q`); o.Cut() }), // a call half said is not shown
		}, 1750 * time.Millisecond, 3500 * time.Millisecond},
		"silence": {[]modeltest.Turn{func(w *modeltest.Wire) { w.Hang() }}, 5*time.Minute + 250*time.Millisecond, 5*time.Minute + 500*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := pipe(t, nil, append(c.turns, modeltest.OpenAIText("at ", "last"))...)
				began := time.Now()
				got := v.Must(t, modeltest.WithTools(modeltest.Hello()))
				require.Equal(t, "at last", got.Text)
				require.Empty(t, got.ToolCalls)
				took := time.Since(began)
				require.True(t, took >= c.least && took <= c.most, "took %v", took)
				require.Len(t, v.Requests(), len(c.turns)+1)
			})
		})
	}
}

// A text that was begun is not begun again.
func TestNoRetryAfterText(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(o modeltest.OpenAI){
		"cut":       func(o modeltest.OpenAI) { o.Cut() },
		"malformed": func(o modeltest.OpenAI) { o.Event("", "{") },
		"error":     func(o modeltest.OpenAI) { o.Event("", modeltest.OpenAIError("server_error", "", "", "")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := pipe(t, nil, modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Text("half an ans"); end(o) }), modeltest.OpenAIText("another"))
				got, err := v.Ask(t.Context(), modeltest.Hello())
				require.ErrorContains(t, err, "a part of the answer was streamed already")
				require.Equal(t, []string{"half an ans"}, got.Pieces)
				require.Len(t, v.Requests(), 1)
			})
		})
	}
}

// A Retry-After beyond the run's deadline is not waited for.
func TestRetryAfterBeyondDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := pipe(t, nil, modeltest.Refuse(429, "{}", "Retry-After", "3600"))
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		defer cancel()
		began := time.Now()
		_, err := v.Ask(ctx, modeltest.Hello())
		require.EqualError(t, err, "openai: 429 Too Many Requests (no time left for another attempt)")
		require.Zero(t, time.Since(began))
	})
}

var errCancelled = errors.New("cancelled by an operator")

// A cancellation ends the call at every place where it may wait, at once and with
// its cause.
func TestCancel(t *testing.T) {
	t.Parallel()
	for name, turn := range map[string]modeltest.Turn{
		"waiting for headers":   func(w *modeltest.Wire) { w.Hang() },
		"waiting for events":    modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Role(); o.Hang() }),
		"between texts":         modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Text("a", "b"); o.Hang() }),
		"within a tool call":    modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Call(0, "c", "search"); o.Hang() }),
		"within an event":       modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Raw(`data: {"cho`); o.Hang() }),
		"after the finish":      modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Text("a"); o.Finish("stop"); o.Hang() }),
		"within a refusal":      func(w *modeltest.Wire) { w.Plain(503, "text/plain", "I am"); w.Raw(""); w.Hang() },
		"backoff":               modeltest.Refuse(503, "{}"),
		"backoff that is asked": modeltest.Refuse(429, "{}", "Retry-After", "600"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				retry := &llm.RetryOptions{MinDelay: time.Hour, MaxDelay: time.Hour}
				modeltest.Cancelled(t, pipe(t, &openai.Options{Retry: retry}, turn).Model, errCancelled)
			})
		})
	}
	t.Run("dial", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			client, stop := modeltest.NewNetwork().Silent()
			defer stop()
			modeltest.Cancelled(t, connect(t, nil, client, "http://openai.example/v1", nil).Model, errCancelled)
		})
	})
}

// A deadline is told by its cause too.
func TestDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := pipe(t, nil, modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Role(); o.Hang() }))
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errCancelled)
		defer cancel()
		began := time.Now()
		_, err := v.Ask(ctx, modeltest.Hello())
		require.Equal(t, errCancelled, err)
		require.Equal(t, time.Minute, time.Since(began))
	})
}

// A redirect is an answer like any other: the key goes nowhere else.
func TestRedirect(t *testing.T) {
	t.Parallel()
	var elsewhere []string
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		elsewhere = append(elsewhere, r.URL.Host)
		return &http.Response{StatusCode: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"https://elsewhere.example/v1/chat/completions"}}, Body: http.NoBody, Request: r}, nil
	})}
	failure := connect(t, nil, client, "https://openai.example/v1", nil).Fail(t, modeltest.Hello())
	require.EqualError(t, failure, "openai: 307 Temporary Redirect")
	require.Equal(t, []string{"openai.example"}, elsewhere)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func FuzzStream(f *testing.F) {
	for _, s := range []string{
		"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
		"data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":-1,\"id\":\"\",\"function\":{\"name\":\"x\",\"arguments\":\"{\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n",
		"data: {\"error\":{\"message\":\"no\",\"code\":503}}\n\n",
		"event: error\ndata: null\n\n", ": comment\n\ndata:\n\n", "data: {\"choices\":null,\"usage\":null}\n\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, stream string) {
		client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			_ = r.Body.Close()
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}},
				Body: body{strings.NewReader(stream)}, Request: r}, nil
		})}
		model, err := openai.New(key, &openai.Options{HTTPClient: client, Retry: &llm.RetryOptions{MaxAttempts: 1}})
		if err != nil {
			t.Fatal(err)
		}
		var streamed strings.Builder
		response, err := model.Generate(t.Context(), modeltest.Hello(), func(c llm.Chunk) error {
			streamed.WriteString(c.Text)
			return nil
		})
		switch {
		case err != nil && response != nil:
			t.Fatal("an answer and an error")
		case err == nil && response.Text != streamed.String():
			t.Fatalf("streamed %q of %q", streamed.String(), response.Text)
		case err != nil && !errors.As(err, new(*llm.Error)):
			t.Fatalf("an error of no vendor: %v", err)
		case err == nil:
			ids := make(map[string]bool)
			for _, c := range response.ToolCalls {
				if c.ID == "" || ids[c.ID] {
					t.Fatalf("the id %q", c.ID)
				}
				ids[c.ID] = true
			}
		}
	})
}

type body struct{ *strings.Reader }

func (body) Close() error { return nil }
