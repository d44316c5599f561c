package webtrigger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// A test callback is what a run's callback is, over real TLS, except that no run
// is behind it: neither the channel nor Work is needed, and nothing is stored.
func TestATestCallbackIsAsRunsHaveThem(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{false, true} {
		url, roots, got := receiver(t, http.StatusOK)
		general, special := webtrigger.NewSigningSecret(), webtrigger.NewSigningSecret()
		b := setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com/base", Callback: webtrigger.CallbackOptions{
			Allow: loopback(), RootCAs: roots, Secrets: []webtrigger.SigningSecret{general},
		}})
		b.setChannel(webtrigger.Channel{AssistantID: "1"})
		secret := general
		if own {
			secret = special
			require.NoError(t, b.svc.SetSigningSecrets(b.ctx, "1", special))
		}
		d, err := b.svc.SendTestCallback(b.ctx, "1", url+"/hook?a=%zz&b=|")
		require.NoError(t, err)
		cb := <-got
		require.Equal(t, "/hook?a=%zz&b=|", cb.target)
		verifier, err := client.NewVerifier([]string{secret.Reveal()}, nil)
		require.NoError(t, err)
		require.NoError(t, verifier.Verify(cb.header, cb.body))
		require.Equal(t, d.RunKey, cb.header.Get("webhook-id"))
		var fields map[string]any
		require.NoError(t, json.Unmarshal(cb.body, &fields))
		completed, err := time.Parse("2006-01-02T15:04:05.999999-07:00", fields["completed_at"].(string))
		require.NoError(t, err)
		require.WithinDuration(t, d.CreatedAt, completed, time.Millisecond)
		delete(fields, "completed_at")
		require.Equal(t, map[string]any{
			"run_key": d.RunKey, "status": "completed", "status_detail": nil, "result_text": "Test callback", "error_message": nil,
			"conversation_id": 0.0, "events_url": "https://app.example.com/base/conversations/0/agent-events?run_id=0",
		}, fields)

		require.Equal(t, webtrigger.DeliveryDelivered, d.State)
		require.Equal(t, http.StatusOK, d.HTTPStatus)
		require.Equal(t, "thanks\uFFFD", d.Response)
		require.Positive(t, d.Latency)
		require.False(t, d.AttemptedAt.IsZero())
		require.False(t, d.CompletedAt.Before(d.AttemptedAt))
		require.Zero(t, d.ID+d.RunID+d.ConversationID)
		runs, err := b.svc.Runs(b.ctx, webtrigger.RunQuery{})
		require.NoError(t, err)
		require.Empty(t, runs)
		stop := b.work()
		stop()
		require.Empty(t, got, "it is owed by nobody")
	}
}

func TestTestCallbackTellsWhatWentWrong(t *testing.T) {
	t.Parallel()
	url, roots, got := receiver(t, http.StatusTeapot)
	var log bytes.Buffer
	b := setup(t, nil, &webtrigger.Options{
		Logger:   slog.New(slog.NewTextHandler(&log, nil)),
		Callback: webtrigger.CallbackOptions{Allow: loopback(), RootCAs: roots, Retry: &webtrigger.RetryPolicy{}},
	})
	d, err := b.svc.SendTestCallback(b.ctx, "1", url+"/geheim")
	require.NoError(t, err)
	require.Equal(t, webtrigger.DeliveryFailed, d.State)
	require.Equal(t, http.StatusTeapot, d.HTTPStatus)
	require.Equal(t, webtrigger.FailureStatus, d.FailureClass)
	require.Empty(t, (<-got).header["Webhook-Signature"], "there is no secret")

	for _, blocked := range []string{"https://10.0.0.1/geheim", "https://[fd00::1]/geheim", "https://169.254.169.254/geheim"} {
		d, err = b.svc.SendTestCallback(b.ctx, "1", blocked)
		require.NoError(t, err)
		require.Equal(t, webtrigger.DeliveryBlocked, d.State)
		require.Equal(t, webtrigger.FailureBlocked, d.FailureClass)
		require.True(t, d.AttemptedAt.IsZero())
	}
	require.NotContains(t, log.String(), "geheim")

	for _, refused := range []string{"", "http://127.0.0.1/", "https://user@app.example.com/", "https://0x7f.1/", "https://app.example.com:5432/"} {
		_, err = b.svc.SendTestCallback(b.ctx, "1", refused)
		var request *webtrigger.RequestError
		require.ErrorAs(t, err, &request, refused)
		require.Equal(t, "/callback_url", request.Faults[0].Pointer)
	}
	_, err = b.svc.SendTestCallback(b.ctx, "a b", url)
	var request *webtrigger.RequestError
	require.ErrorAs(t, err, &request)
	require.Equal(t, "/assistant_id", request.Faults[0].Pointer)
	require.Empty(t, got)
}

// Whoever gives up hears that nothing is known; an answer that came is told all
// the same.
func TestTestCallbackOfACallerWhoLeaves(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	for _, test := range []struct {
		connects bool
		answers  bool
	}{{false, false}, {true, false}, {true, true}} {
		ctx, leave := context.WithCancel(b.ctx)
		b.svc.StubReceivers(func(string) error {
			if !test.connects {
				leave()
				return errors.New("no connection")
			}
			return nil
		}, func(webtrigger.Exchange) (*egress.Response, error) {
			leave()
			if !test.answers {
				return nil, errors.New("no answer")
			}
			return status(204), nil
		})
		d, err := b.svc.SendTestCallback(ctx, "1", hook)
		if test.answers {
			require.NoError(t, err)
			require.Equal(t, webtrigger.DeliveryDelivered, d.State)
			continue
		}
		require.ErrorIs(t, err, context.Canceled)
	}
}
