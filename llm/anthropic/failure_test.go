package anthropic_test

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
	"github.com/webtrigger-go/webtrigger/llm/anthropic"
)

// What goes wrong, as the vendor tells it, and what it is called here.
func TestFailures(t *testing.T) {
	t.Parallel()
	overloaded := modeltest.AnthropicError("overloaded_error", "Overloaded")
	stream := func(play func(a modeltest.Anthropic)) modeltest.Turn {
		return modeltest.AnthropicTurn(func(a modeltest.Anthropic) { a.Start(); play(a) })
	}
	for name, c := range map[string]struct {
		turn   modeltest.Turn
		text   string
		detail string
		again  bool
		after  time.Duration
	}{
		"rate limit": {turn: modeltest.Refuse(429, modeltest.AnthropicError("rate_limit_error", "Number of request tokens has exceeded your per-minute rate limit"), "Retry-After", "20", "Request-Id", "req_9"),
			text: "anthropic: 429 Too Many Requests (rate_limit_error)", detail: "Number of request tokens has exceeded your per-minute rate limit, request req_9", again: true, after: 20 * time.Second},
		"overload":     {turn: modeltest.Refuse(529, overloaded), text: "anthropic: 529 Overloaded (overloaded_error)", detail: "Overloaded", again: true},
		"server error": {turn: modeltest.Refuse(500, modeltest.AnthropicError("api_error", "Internal server error")), text: "anthropic: 500 Internal Server Error (api_error)", detail: "Internal server error", again: true},
		"timeout":      {turn: modeltest.Refuse(504, modeltest.AnthropicError("timeout_error", "slow")), text: "anthropic: 504 Gateway Timeout (timeout_error)", detail: "slow", again: true},
		"a proxy's page": {turn: func(w *modeltest.Wire) { w.Plain(502, "text/html", "<html>Bad gateway</html>") },
			text: "anthropic: 502 Bad Gateway", detail: "<html>Bad gateway</html>", again: true},
		"billing":  {turn: modeltest.Refuse(402, modeltest.AnthropicError("billing_error", "no credit")), text: "anthropic: 402 Payment Required (billing_error)", detail: "no credit"},
		"too long": {turn: modeltest.Refuse(400, modeltest.AnthropicError("invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum")), text: "anthropic: 400 Bad Request (invalid_request_error)", detail: "prompt is too long: 250000 tokens > 200000 maximum"},
		"too large": {turn: modeltest.Refuse(413, modeltest.AnthropicError("request_too_large", "32 MB")),
			text: "anthropic: 413 Request Entity Too Large (request_too_large)", detail: "32 MB"},
		"not to be tried again": {turn: modeltest.Refuse(529, overloaded, "X-Should-Retry", "false"), text: "anthropic: 529 Overloaded (overloaded_error)"},
		"a page with 200": {turn: func(w *modeltest.Wire) { w.Plain(200, "text/html; charset=utf-8", "<html>Log in</html>") },
			text: "anthropic: the answer is text/html, not an event stream", detail: "<html>Log in</html>"},
		"malformed event":       {turn: stream(func(a modeltest.Anthropic) { a.Event("content_block_start", `{"type":"content_bl`) }), text: "anthropic: a malformed event", again: true},
		"event of another type": {turn: stream(func(a modeltest.Anthropic) { a.Event("content_block_start", `[]`) }), text: "anthropic: a malformed event", again: true},
		"input without a block": {turn: stream(func(a modeltest.Anthropic) { a.Input(0, "{") }), text: "anthropic: a malformed event", again: true},
		"cut":                   {turn: stream(func(a modeltest.Anthropic) { a.Cut() }), text: "anthropic: the connection was cut", again: true},
		"early end":             {turn: stream(func(modeltest.Anthropic) {}), text: "anthropic: the stream ended before the answer was complete", again: true},
		"early stop": {turn: stream(func(a modeltest.Anthropic) { a.Event("message_stop", map[string]any{"type": "message_stop"}) }),
			text: "anthropic: the stream ended before the answer was complete", again: true},
		"empty stream": {turn: modeltest.AnthropicTurn(func(a modeltest.Anthropic) { a.Raw("") }), text: "anthropic: the stream ended before the answer was complete", again: true},
		"half an event": {turn: stream(func(a modeltest.Anthropic) { a.Raw("event: content_block_start\ndata: {\"type\":") }),
			text: "anthropic: a malformed event", again: true},
		"overload in the stream": {turn: stream(func(a modeltest.Anthropic) { a.Fail("overloaded_error", "Overloaded") }),
			text: "anthropic: an error in the stream (overloaded_error)", detail: "Overloaded", again: true},
		"final error in the stream": {turn: stream(func(a modeltest.Anthropic) { a.Fail("invalid_request_error", "no") }),
			text: "anthropic: an error in the stream (invalid_request_error)", detail: "no"},
		"error of a new kind in the stream": {turn: stream(func(a modeltest.Anthropic) { a.Fail("gravity_error", "up") }),
			text: "anthropic: an error in the stream (gravity_error)", detail: "up", again: true},
		"error without JSON in the stream": {turn: stream(func(a modeltest.Anthropic) { a.Event("error", "upstream gone") }),
			text: "anthropic: an error in the stream", detail: "upstream gone", again: true},
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
	failure := serve(t, &anthropic.Options{Model: "no-such-model"}).Fail(t, modeltest.Hello())
	require.EqualError(t, failure, "anthropic: 404 Not Found (not_found_error)")
	require.False(t, failure.Retryable)

	fake := modeltest.NewAnthropic("another key")
	client, stop := modeltest.NewNetwork().Serve(fake)
	defer stop()
	v := connect(t, fake, client, "http://anthropic.example", nil)
	failure = v.Fail(t, modeltest.Hello()) // the server repeats the key; fail looks for it
	require.EqualError(t, failure, "anthropic: 401 Unauthorized (authentication_error)")
	require.Equal(t, "invalid x-api-key [API key]", failure.Detail)
	require.Contains(t, v.Log.String(), "invalid x-api-key [API key]")
	require.False(t, failure.Retryable)
}

// What may pass is tried again, when the vendor says, until there is an answer.
func TestRetries(t *testing.T) {
	t.Parallel()
	limit := modeltest.AnthropicError("rate_limit_error", "slow down")
	overloaded := modeltest.AnthropicError("overloaded_error", "Overloaded")
	for name, c := range map[string]struct {
		turns       []modeltest.Turn
		least, most time.Duration
	}{
		"rate limits": {[]modeltest.Turn{modeltest.Refuse(429, limit, "Retry-After", "20"), modeltest.Refuse(429, limit, "Retry-After", "40")}, time.Minute, time.Minute + time.Second},
		"overloads":   {[]modeltest.Turn{modeltest.Refuse(529, overloaded), modeltest.Refuse(500, "{}"), modeltest.Refuse(502, "{}")}, 1750 * time.Millisecond, 3500 * time.Millisecond},
		"cuts": {[]modeltest.Turn{
			func(w *modeltest.Wire) { w.Cut() },
			modeltest.AnthropicTurn(func(a modeltest.Anthropic) { a.Start(); a.Thinking(0, "Hm.", "c2ln"); a.Cut() }),
			modeltest.AnthropicTurn(func(a modeltest.Anthropic) { a.Start(); a.Tool(0, "t", "search"); a.Input(0, `{"q`); a.Cut() }), // a call half said is not shown
		}, 1750 * time.Millisecond, 3500 * time.Millisecond},
		"overload in the stream": {[]modeltest.Turn{modeltest.AnthropicTurn(func(a modeltest.Anthropic) { a.Start(); a.Fail("overloaded_error", "Overloaded") })},
			250 * time.Millisecond, 500 * time.Millisecond},
		"silence": {[]modeltest.Turn{func(w *modeltest.Wire) { w.Hang() }}, 5*time.Minute + 250*time.Millisecond, 5*time.Minute + 500*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := pipe(t, nil, append(c.turns, modeltest.AnthropicText("at ", "last"))...)
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
	for name, end := range map[string]func(a modeltest.Anthropic){
		"cut":       func(a modeltest.Anthropic) { a.Cut() },
		"malformed": func(a modeltest.Anthropic) { a.Event("content_block_stop", "{") },
		"overload":  func(a modeltest.Anthropic) { a.Fail("overloaded_error", "Overloaded") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := pipe(t, nil, modeltest.AnthropicTurn(func(a modeltest.Anthropic) {
					a.Start()
					a.Block(0, map[string]any{"type": "text", "text": ""})
					a.Text(0, "half an ans")
					end(a)
				}), modeltest.AnthropicText("another"))
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
		require.EqualError(t, err, "anthropic: 429 Too Many Requests (no time left for another attempt)")
		require.Zero(t, time.Since(began))
	})
}

var errCancelled = errors.New("cancelled by an operator")

// A cancellation ends the call at every place where it may wait, at once and with
// its cause.
func TestCancel(t *testing.T) {
	t.Parallel()
	stream := func(play func(a modeltest.Anthropic)) modeltest.Turn {
		return modeltest.AnthropicTurn(func(a modeltest.Anthropic) { a.Start(); play(a); a.Hang() })
	}
	for name, turn := range map[string]modeltest.Turn{
		"waiting for headers": func(w *modeltest.Wire) { w.Hang() },
		"waiting for events":  stream(func(modeltest.Anthropic) {}),
		"between texts": stream(func(a modeltest.Anthropic) {
			a.Block(0, map[string]any{"type": "text", "text": ""})
			a.Text(0, "a", "b")
		}),
		"within a tool call":    stream(func(a modeltest.Anthropic) { a.Tool(0, "t", "search") }),
		"within an event":       stream(func(a modeltest.Anthropic) { a.Raw("event: message_st") }),
		"after the reason":      stream(func(a modeltest.Anthropic) { a.Reason("end_turn", 1, nil) }),
		"within a refusal":      func(w *modeltest.Wire) { w.Plain(503, "text/plain", "I am"); w.Raw(""); w.Hang() },
		"backoff":               modeltest.Refuse(529, "{}"),
		"backoff that is asked": modeltest.Refuse(429, "{}", "Retry-After", "600"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				retry := &llm.RetryOptions{MinDelay: time.Hour, MaxDelay: time.Hour}
				modeltest.Cancelled(t, pipe(t, &anthropic.Options{Retry: retry}, turn).Model, errCancelled)
			})
		})
	}
	t.Run("dial", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			client, stop := modeltest.NewNetwork().Silent()
			defer stop()
			modeltest.Cancelled(t, connect(t, nil, client, "http://anthropic.example", nil).Model, errCancelled)
		})
	})
}

// A deadline is told by its cause too.
func TestDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := pipe(t, nil, modeltest.AnthropicTurn(func(a modeltest.Anthropic) { a.Start(); a.Hang() }))
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
	var asked []string
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Host)
		return &http.Response{StatusCode: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"https://elsewhere.example/v1/messages"}}, Body: http.NoBody, Request: r}, nil
	})}
	failure := connect(t, nil, client, "https://anthropic.example", nil).Fail(t, modeltest.Hello())
	require.EqualError(t, failure, "anthropic: 307 Temporary Redirect")
	require.Equal(t, []string{"anthropic.example"}, asked)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func FuzzStream(f *testing.F) {
	const start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1}}}\n\n"
	const end = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":1}}\n\n"
	for _, s := range []string{
		start + "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"hi\"}}\n\n" + end,
		start + "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"\",\"name\":\"x\",\"input\":[]}}\n\n" +
			"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\"}}\n\n" + end,
		"event: error\ndata: {\"error\":{\"type\":\"overloaded_error\"}}\n\n", "event: error\ndata: null\n\n", ": comment\n\ndata:\n\n", end,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, stream string) {
		client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			_ = r.Body.Close()
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}},
				Body: body{strings.NewReader(stream)}, Request: r}, nil
		})}
		model, err := anthropic.New(key, &anthropic.Options{HTTPClient: client, Retry: &llm.RetryOptions{MaxAttempts: 1}})
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
