package webtrigger_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/internal/egress"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// received is one callback as it came over the wire.
type received struct {
	target string
	header http.Header
	body   []byte
}

func receiver(t *testing.T, status int) (url string, roots *x509.CertPool, got chan received) {
	got = make(chan received, 16)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- received{r.RequestURI, r.Header, body}
		w.WriteHeader(status)
		_, _ = w.Write([]byte("thanks\x00"))
	}))
	t.Cleanup(server.Close)
	roots = x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL, roots, got
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

func (b *bundle) triggerWithCallback(message, url string) webtrigger.Run {
	b.t.Helper()
	run, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: message, CallbackURL: url})
	require.NoError(b.t, err)
	return run
}

// delivered waits until no delivery of the run is open and returns the last.
func (b *bundle) delivered(runID int64) webtrigger.Delivery {
	b.t.Helper()
	var last webtrigger.Delivery
	require.Eventually(b.t, func() bool {
		all, err := b.svc.Deliveries(b.ctx, runID)
		require.NoError(b.t, err)
		if len(all) == 0 {
			return false
		}
		last = all[len(all)-1]
		return last.State != webtrigger.DeliveryPending && last.State != webtrigger.DeliverySending
	}, time.Minute, 2*time.Millisecond)
	return last
}

func TestCallbackCarriesExactlyTheEightFields(t *testing.T) {
	t.Parallel()
	url, roots, got := receiver(t, http.StatusOK)
	b := setup(t, nil, &webtrigger.Options{
		BaseURL:  "https://app.example.com/base/",
		Callback: webtrigger.CallbackOptions{Allow: loopback(), RootCAs: roots},
	})
	stop := b.work()
	defer stop()
	for _, test := range []struct{ message, status, result, failure string }{
		{"say <done>", "completed", "<done>", ""},
		{"fail no luck", "failed", "", "no luck"},
	} {
		run := b.triggerWithCallback(test.message, url+"/hook?a=%zz&b=|")
		cb := <-got
		require.Equal(t, "/hook?a=%zz&b=|", cb.target)
		require.Equal(t, []string{"application/json"}, cb.header["Content-Type"])
		require.Empty(t, cb.header["Idempotency-Key"])
		require.Empty(t, cb.header["Cookie"])
		var fields map[string]any
		require.NoError(t, json.Unmarshal(cb.body, &fields))
		ended := b.run(run.ID)
		want := map[string]any{
			"run_key": run.Key, "status": test.status, "status_detail": nil, "result_text": nil, "error_message": nil,
			"conversation_id": float64(run.ConversationID), "events_url": ended.EventsURL(),
			"completed_at": ended.CompletedAt.Format("2006-01-02T15:04:05.999999-07:00"),
		}
		if test.result != "" {
			want["result_text"] = test.result
		}
		if test.failure != "" {
			want["error_message"] = test.failure
		}
		require.Equal(t, want, fields)
		require.True(t, strings.HasPrefix(ended.EventsURL(), "https://app.example.com/base/conversations/"))
		d := b.delivered(run.ID)
		require.Equal(t, webtrigger.DeliveryDelivered, d.State)
		require.Equal(t, http.StatusOK, d.HTTPStatus)
		require.Equal(t, "thanks\uFFFD", d.Response)
		require.Positive(t, d.Latency)
		require.False(t, d.AttemptedAt.IsZero())
		require.False(t, d.CompletedAt.IsZero())
	}

	again, err := b.svc.Redeliver(b.ctx, 1)
	require.NoError(t, err)
	require.EqualValues(t, 1, again.RunID)
	cb := <-got
	require.Contains(t, string(cb.body), b.run(1).Key)
	require.Equal(t, webtrigger.DeliveryDelivered, b.delivered(1).State)
}

func TestCallbackThatIsRefusedByItsReceiverIsFailedAndNotRetried(t *testing.T) {
	t.Parallel()
	url, roots, got := receiver(t, http.StatusInternalServerError)
	b := setup(t, nil, &webtrigger.Options{
		BaseURL: "https://app.example.com", Callback: webtrigger.CallbackOptions{Allow: loopback(), RootCAs: roots},
	})
	stop := b.work()
	run := b.triggerWithCallback("say x", url)
	<-got
	d := b.delivered(run.ID)
	require.Equal(t, webtrigger.DeliveryFailed, d.State)
	require.Equal(t, 500, d.HTTPStatus)
	require.NotEmpty(t, d.Error)
	stop()
	require.Empty(t, got)
}

// Without the operator's word a loopback receiver is refused at accept, and
// again when the URL got in some other way; nothing is dialled.
func TestCallbackGuardStandsAtAcceptAndAtDelivery(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	var dialled atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			_ = conn.Close()
		}
	}()
	b := setup(t, nil, nil)
	url := "https://" + listener.Addr().String() + "/hook?token=secret"
	_, err = b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "say x", CallbackURL: url})
	var refused *webtrigger.RequestError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "/callback_url", refused.Faults[0].Pointer)

	accepted, err := b.store.CreateTrigger(b.ctx, webtrigger.NewTrigger{
		RunKey: "4a4b1b8e-56a4-4d43-9a0c-6a7b1f1d8a10", AssistantID: "1", CallbackURL: url, BaseURL: "https://app.example.com",
		Input: webtrigger.RunInput{Subject: "s", Message: "say x"},
	})
	require.NoError(t, err)
	stop := b.work()
	d := b.delivered(accepted.Run.ID)
	stop()
	require.Equal(t, webtrigger.DeliveryBlocked, d.State)
	require.True(t, d.AttemptedAt.IsZero(), "it was never claimed")
	require.NotContains(t, d.Error, "secret")
	require.Zero(t, dialled.Load())
}

// beginStore answers ClaimDelivery as told.
type beginStore struct {
	webtrigger.Store
	before, after error
}

func (s beginStore) ClaimDelivery(ctx context.Context, lease webtrigger.DeliveryLease) error {
	if s.before != nil {
		return s.before
	}
	return errors.Join(s.Store.ClaimDelivery(ctx, lease), s.after)
}

func TestCallbackIsNotSentUnlessItsClaimIsKnownToBeStored(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before, after error
		state         webtrigger.DeliveryState
	}{
		"the lease is lost":           {webtrigger.ErrLeaseLost, nil, webtrigger.DeliveryPending},
		"the store is away":           {webtrigger.ErrUnavailable, nil, webtrigger.DeliveryPending},
		"the commit's answer is lost": {nil, webtrigger.ErrUnavailable, webtrigger.DeliveryUnknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setupOn(t, beginStore{memstore.New(nil), test.before, test.after}, nil, nil)
				var posts atomic.Int32
				b.svc.StubCallbacks(func() error { return nil }, func([]byte) (int, error) { posts.Add(1); return 200, nil })
				stop := b.work()
				run := b.triggerWithCallback("say x", "https://203.0.114.1/")
				time.Sleep(2 * time.Minute)
				stop()
				require.Zero(t, posts.Load())
				all, err := b.svc.Deliveries(b.ctx, run.ID)
				require.NoError(t, err)
				require.Len(t, all, 1)
				require.Equal(t, test.state, all[0].State)
			})
		})
	}
}

func TestCallbackOfARunThatEndsInTheDrainIsSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", DrainTimeout: time.Second})
		var posts atomic.Int32
		b.svc.StubCallbacks(func() error { return nil }, func([]byte) (int, error) { posts.Add(1); return 200, nil })
		stop := b.work()
		b.triggerWithCallback("hang", "https://203.0.114.1/")
		synctest.Wait()
		stop()
		require.EqualValues(t, 1, posts.Load())
	})
}

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
