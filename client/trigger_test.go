package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/webtriggertest"
)

// All fields of a request arrive unchanged, over a real connection.
func TestTrigger_allFields_arriveUnchanged(t *testing.T) {
	t.Parallel()
	svc := webtriggertest.New(t, nil)
	task, err := svc.CreateTaskDefinition(t.Context(), webtrigger.TaskDefinition{
		AssistantID: "1", Name: "Report", Instructions: "Write it.", OutputType: webtrigger.OutputText, Active: true,
	})
	require.NoError(t, err)
	server := httptest.NewServer(http.StripPrefix("/base", svc))
	defer server.Close()
	c, err := client.New(server.URL+"/base", svc.Key, &client.Options{HTTPClient: server.Client()})
	require.NoError(t, err)

	accepted, err := c.Trigger(t.Context(), "1", client.TriggerRequest{
		Message: "Ä <b> & \u2028 \"q\"", Subject: "Nightly", TaskDefinitionID: task.ID, CallbackURL: "https://93.184.216.34/hook",
		Context:  json.RawMessage(`{"z": 1e22, "a": -0, "<": "\u00e4"}`),
		Metadata: struct{ Build int }{17},
	})
	require.NoError(t, err)
	run, err := svc.RunByID(t.Context(), accepted.RunID)
	require.NoError(t, err)
	require.Equal(t, &client.CreatedTrigger{
		TriggerID: run.ConversationID, Status: "accepted", StatusURL: run.StatusURL(), RunID: run.ID, RunKey: run.Key, EventsURL: run.EventsURL(), StreamURL: run.StreamURL(),
	}, accepted)
	require.Equal(t, "https://93.184.216.34/hook", run.CallbackURL)
	input, err := svc.RunInput(t.Context(), accepted.RunID)
	require.NoError(t, err)
	require.Equal(t, "Ä <b> & \u2028 \"q\"", input.Message)
	require.Equal(t, "Nightly", input.Subject)
	require.Equal(t, `{"z":1e22,"a":-0,"<":"\u00e4"}`, string(input.Context))
	require.Equal(t, `{"Build":17}`, string(input.Metadata))

	status, err := c.Wait(t.Context(), accepted.TriggerID)
	require.NoError(t, err)
	require.Equal(t, "completed", status.Status)
	require.Equal(t, "completed", status.RunStatus)
	require.Contains(t, *status.Result, "z: 1e22\na: -0\n")
	require.Equal(t, run.Key, status.RunKey)
	require.NotNil(t, status.CompletedAt)
	again, err := c.Status(t.Context(), accepted.TriggerID)
	require.NoError(t, err)
	require.Equal(t, status, again)

	plain, err := c.Trigger(t.Context(), "1", client.TriggerRequest{Message: "go", Context: map[string]string(nil)})
	require.NoError(t, err)
	input, err = svc.RunInput(t.Context(), plain.RunID)
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunInput{Message: "go", Subject: "Web trigger (test)"}, input)
}

// Whatever happens to an attempt, the trigger is stored once, and all attempts
// have the same key.
func TestTriggerIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults   []fault
		replayed bool
		min, max time.Duration
	}{
		"no fault":            {nil, false, 0, 0},
		"a lost answer":       {[]fault{lost}, true, 250 * time.Millisecond, 500 * time.Millisecond},
		"half an answer":      {[]fault{cut}, true, 250 * time.Millisecond, 500 * time.Millisecond},
		"lost and lost again": {[]fault{lost, cut, lost}, true, 1750 * time.Millisecond, 3500 * time.Millisecond},
		"no answer at all":    {[]fault{silent}, false, 20250 * time.Millisecond, 20500 * time.Millisecond},
		"unavailable store":   {[]fault{rejected(503, "Retry-After", "1")}, false, time.Second, time.Second},
		"too many":            {[]fault{rejected(429, "Retry-After", "7")}, false, 7 * time.Second, 7 * time.Second},
		"too many, by date": {[]fault{func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Retry-After", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
			w.WriteHeader(429)
		}}, false, 59 * time.Second, time.Minute},
		"a proxy, then a lost answer": {[]fault{rejected(502), lost}, true, 750 * time.Millisecond, 1500 * time.Millisecond},
		"a broken service":            {[]fault{rejected(500), rejected(504), rejected(408)}, false, 1750 * time.Millisecond, 3500 * time.Millisecond},
	} {
		inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, cl *client.Client) {
			s.faults = c.faults
			start := time.Now()
			accepted, err := cl.Trigger(t.Context(), "1", client.TriggerRequest{Message: "go"})
			took := time.Since(start)
			require.NoError(t, err, name)
			require.Equal(t, c.replayed, accepted.Replayed, name)
			require.GreaterOrEqual(t, took, c.min, name)
			require.LessOrEqual(t, took, c.max, name)
			require.Equal(t, 1, s.runs(t), name)
			seen := s.requests()
			require.Len(t, seen, len(c.faults)+1, name)
			for _, header := range seen {
				require.Equal(t, seen[0].Values("Idempotency-Key"), header.Values("Idempotency-Key"), name)
				require.Len(t, header.Get("Idempotency-Key"), 26, name)
				require.Equal(t, "Bearer secret", header.Get("Authorization"), name)
			}
		})
	}
}

func TestTriggerWithAKeyOfTheCaller(t *testing.T) {
	t.Parallel()
	inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
		req := client.TriggerRequest{Message: "go", Context: map[string]any{"b": 1, "a": []int{2}}, IdempotencyKey: "report-17"}
		first, err := c.Trigger(t.Context(), "1", req)
		require.NoError(t, err)
		require.False(t, first.Replayed)
		second, err := c.Trigger(t.Context(), "1", req)
		require.NoError(t, err)
		require.True(t, second.Replayed)
		require.Equal(t, first.TriggerID, second.TriggerID)
		req.IdempotencyKey = "" // the client generates one
		third, err := c.Trigger(t.Context(), "1", req)
		require.NoError(t, err)
		require.NotEqual(t, first.TriggerID, third.TriggerID)
		_, err = c.Trigger(t.Context(), "1", client.TriggerRequest{Message: "other", IdempotencyKey: "report-17"})
		var answered *client.Error
		require.ErrorAs(t, err, &answered)
		require.Equal(t, "idempotency_key_reused", answered.Code)
	})
}

// A request is not retried if a retry cannot succeed.
func TestTrigger_rejected_isNotRetried(t *testing.T) {
	t.Parallel()
	inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
		_, err := c.Trigger(t.Context(), "1", client.TriggerRequest{Message: " ", Subject: strings.Repeat("x", 256)})
		var answered *client.Error
		require.ErrorAs(t, err, &answered)
		require.Equal(t, 422, answered.Status)
		require.Equal(t, "invalid_request", answered.Code)
		require.Equal(t, []client.Fault{{"/message", "must not be blank"}, {"/subject", "must have at most 255 characters"}}, answered.Faults)
		require.NotEmpty(t, answered.RequestID)
		require.ErrorContains(t, err, ": /message must not be blank; /subject must have at most 255 characters (request ")

		_, err = c.Trigger(t.Context(), "2", client.TriggerRequest{Message: "go"})
		require.ErrorAs(t, err, &answered)
		require.Equal(t, "forbidden", answered.Code)

		s.faults = []fault{rejected(307, "Location", "https://elsewhere.example.com/")}
		_, err = c.Trigger(t.Context(), "1", client.TriggerRequest{Message: "go"})
		require.ErrorAs(t, err, &answered)
		require.Equal(t, 307, answered.Status)
		require.ErrorContains(t, err, `"https://elsewhere.example.com/"`)

		for _, odd := range []fault{
			func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", "text/html")
				w.WriteHeader(202)
				_, _ = w.Write([]byte(`{"trigger_id":1}`))
			},
			rejected(200, "Content-Type", "application/json"),
			rejected(204),
			func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(202)
				_, _ = w.Write([]byte(`{"status":"accepted"}`))
			},
		} {
			s.faults = []fault{odd}
			accepted, err := c.Trigger(t.Context(), "1", client.TriggerRequest{Message: "go"})
			require.Error(t, err)
			require.Nil(t, accepted)
		}
		require.Len(t, s.requests(), 7, "one for each")

		for _, bad := range []client.TriggerRequest{
			{Message: "go", Context: func() {}}, {Message: "go", Metadata: json.RawMessage(`{`)},
			{Message: "go", IdempotencyKey: "a b"}, {Message: "go", IdempotencyKey: "a\nb"}, {Message: "go", IdempotencyKey: strings.Repeat("x", 256)},
		} {
			_, err := c.Trigger(t.Context(), "1", bad)
			require.Error(t, err)
		}
		_, err = c.Trigger(t.Context(), "", client.TriggerRequest{Message: "go"})
		require.Error(t, err)
		require.Len(t, s.requests(), 7, "and none")
		require.Zero(t, s.runs(t))
	})
}

// A server with another certificate is not the service, so a retry cannot succeed.
func TestTrigger_unknownCertificate_isNotRetried(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	c, err := client.New(server.URL, "secret", &client.Options{MaxRetries: -1})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // it takes milliseconds
	defer cancel()
	_, err = c.Trigger(ctx, "1", client.TriggerRequest{Message: "go"})
	require.ErrorContains(t, err, "certificate")
	for _, err := range c.Stream(ctx, 1) {
		require.ErrorContains(t, err, "certificate")
	}
}

func TestTriggerGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &site{Service: webtriggertest.New(t, nil), faults: []fault{rejected(500), lost, rejected(503, "Retry-After", "2")}}
		c := serve(t, s, nil, client.Options{MaxRetries: 2})
		_, err := c.Trigger(t.Context(), "1", client.TriggerRequest{Message: "go"})
		var answered *client.Error
		require.ErrorAs(t, err, &answered)
		require.Equal(t, &client.Error{Status: 503, RetryAfter: 2 * time.Second}, answered)
		require.Len(t, s.requests(), 3)
	})
}

func TestTriggerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	reason := errors.New("enough")
	for name, bad := range map[string]fault{
		"while it is asked": silent, "in a pause": rejected(503, "Retry-After", "60"),
		"in a pause of more than 31 bits": rejected(503, "Retry-After", "99999999999999999999"),
	} {
		inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
			s.faults = []fault{bad}
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(5*time.Second, func() { cancel(reason) })
			start := time.Now()
			_, err := c.Trigger(ctx, "1", client.TriggerRequest{Message: "go"})
			require.ErrorIs(t, err, reason, name)
			require.Equal(t, 5*time.Second, time.Since(start), name)
		})
	}
}

// On a kept connection that breaks, net/http sends the POST again by itself, since
// it has an Idempotency-Key. For the same reason that starts no second run.
func TestTriggerThatTheTransportRepeats(t *testing.T) {
	t.Parallel()
	s := &site{Service: webtriggertest.New(t, nil), faults: []fault{nil, lost}}
	server := httptest.NewServer(s)
	defer server.Close()
	c, err := client.New(server.URL, "secret", &client.Options{HTTPClient: server.Client(), MaxRetries: 1})
	require.NoError(t, err)
	_, err = c.Trigger(t.Context(), "1", client.TriggerRequest{Message: "one"})
	require.NoError(t, err)
	two, err := c.Trigger(t.Context(), "1", client.TriggerRequest{Message: "two"})
	require.NoError(t, err)
	require.True(t, two.Replayed)
	require.Len(t, s.requests(), 3)
	require.Equal(t, 2, s.runs(t))
}
