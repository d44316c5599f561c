package webtrigger_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/internal/egress"
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

func TestCallback_rejectedByReceiver_failsWithoutRetry(t *testing.T) {
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

// Unless the operator allows it, a loopback receiver is blocked at trigger creation, and
// at delivery if the URL was stored in another way. Nothing is dialled.
func TestCallback_loopbackReceiver_isBlockedAtTriggerAndDelivery(t *testing.T) {
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
	var rejected *webtrigger.RequestError
	require.ErrorAs(t, err, &rejected)
	require.Equal(t, "/callback_url", rejected.Faults[0].Pointer)

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

// Work does not return before the callbacks under way have ended, sends those
// that are pending by then, and does not wait for retries.
func TestDrain_pendingCallbacks_areSent(t *testing.T) {
	opts := retrying(time.Minute)
	opts.Callback.Workers, opts.Callback.PerHost = 4, 1
	bubble(t, nil, opts, func(b *bundle) {
		g := newGauge()
		b.svc.StubReceivers(func(string) error { return nil }, func(e webtrigger.Exchange) (*egress.Response, error) {
			defer g.enter(e.URL)()
			time.Sleep(time.Second)
			return status(500), nil
		})
		stop := b.work()
		runs := b.pend(6, hook)
		began := time.Now()
		stop()
		require.Less(b.t, time.Since(began), 20*time.Second)
		require.Equal(b.t, 6, g.count(hook), "one at a time, but all")
		require.Zero(b.t, g.total)
		for _, run := range runs {
			all, err := b.svc.Deliveries(b.ctx, run.ID)
			require.NoError(b.t, err)
			require.Len(b.t, all, 2)
			require.Equal(b.t, webtrigger.DeliveryPending, all[1].State)
		}
	})
}

// slowLeases answers late, like a database whose commit takes its time. A caller
// that does not wait does not get the deliveries that it has leased.
type slowLeases struct{ webtrigger.Store }

func (s slowLeases) LeaseDeliveries(ctx context.Context, claim webtrigger.DeliveryQuery) ([]webtrigger.LeasedDelivery, error) {
	leased, err := s.Store.LeaseDeliveries(ctx, claim)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Second):
		return leased, err
	}
}

// A drain sends the deliveries that are leased.
func TestDrain_leaseInProgress_isSent(t *testing.T) {
	wrap := func(s webtrigger.Store) webtrigger.Store { return slowLeases{s} }
	bubbleOn(t, wrap, nil, webtrigger.Options{}, func(b *bundle) {
		g := newGauge()
		b.svc.StubReceivers(func(string) error { return nil }, func(e webtrigger.Exchange) (*egress.Response, error) {
			defer g.enter(e.URL)()
			return status(204), nil
		})
		stop := b.work()
		time.Sleep(3 * time.Second) // the dispatcher waits
		b.pend(1, hook)
		synctest.Wait() // it leases pending deliveries
		stop()
		require.Equal(b.t, 1, g.count(hook))
	})
}

// A test callback is what a run's callback is, over real TLS, except that no run
// is behind it: neither the channel nor Work is needed, and nothing is stored.
func TestTestCallback_sent_matchesRunCallbackFormat(t *testing.T) {
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
		require.Empty(t, got, "a test callback must leave no pending delivery")
	}
}

func TestTestCallback_failure_returnsReason(t *testing.T) {
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

// A caller whose context ends gets its error. A response that was received is
// returned nevertheless.
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

// suspect is a callback URL and what becomes of it.
type suspect struct {
	url, rule string // "": accepted
	dials     string // accepted: what is dialled at the end
}

// corpora reads the guard's corpora of URLs and addresses, by the ranges that an operator allows. Each address stands for
// two URLs: with the address itself, and with a name that resolves to it.
func corpora(t *testing.T) (suspects map[string][]suspect, names map[string]netip.Addr) {
	suspects, names = make(map[string][]suspect), make(map[string]netip.Addr)
	read := func(file string, add func(policy, subject, rule string)) {
		f, err := os.Open("internal/egress/testdata/" + file)
		require.NoError(t, err)
		defer f.Close()
		policy := "none"
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			switch {
			case len(fields) == 0 || fields[0] == "#" || strings.HasPrefix(fields[0], "#"):
			case fields[0] == "policy":
				policy = fields[1]
			default:
				subject := strings.TrimSpace(strings.Split(lines.Text(), "  ")[0])
				if strings.HasPrefix(subject, `"`) {
					subject, err = strconv.Unquote(subject)
					require.NoError(t, err)
				}
				add(policy, subject, strings.TrimPrefix(fields[len(fields)-1], "-"))
			}
		}
	}
	read("urls.txt", func(policy, url, rule string) {
		s := suspect{url: url, rule: rule}
		if rule == "" {
			target, err := mustGuard(t, policy).ParseURL(url)
			require.NoError(t, err, url)
			s.dials = net.JoinHostPort(target.Host(), strconv.Itoa(int(target.Port())))
			if _, err := netip.ParseAddr(target.Host()); err != nil {
				s.dials = net.JoinHostPort(unlisted, strconv.Itoa(int(target.Port())))
			}
			if target.Host() == "localhost" { // the hosts file has it
				s.dials = net.JoinHostPort("127.0.0.1", strconv.Itoa(int(target.Port())))
			}
		}
		suspects[policy] = append(suspects[policy], s)
	})
	read("addrs.txt", func(policy, text, rule string) {
		a := netip.MustParseAddr(text)
		literal := "https://" + text + ":8443/"
		if a.Is6() {
			literal = "https://[" + strings.Replace(text, "%", "%25", 1) + "]:8443/"
		}
		s := suspect{rule: rule}
		if rule == "" {
			s.dials = netip.AddrPortFrom(a, 8443).String()
		}
		s.url = literal
		suspects[policy] = append(suspects[policy], s)
		if a.Zone() == "" {
			name := fmt.Sprintf("n%d.corpus.example.com", len(names))
			names[name+"."] = a
			s.url = "https://" + name + ":8443/"
			suspects[policy] = append(suspects[policy], s)
		}
	})
	return suspects, names
}

// unlisted is the address of names that are not in the corpus. No line of the corpus allows or blocks it.
const unlisted = "93.184.216.34"

func ranges(t *testing.T, policy string) []netip.Prefix {
	var allow []netip.Prefix
	for text := range strings.SplitSeq(policy, ",") {
		if text != "none" {
			p, err := netip.ParsePrefix(text)
			require.NoError(t, err)
			allow = append(allow, p)
		}
	}
	return allow
}

func mustGuard(t *testing.T, policy string) *egress.Guard {
	guard, err := egress.New(egress.Policy{Allow: ranges(t, policy)})
	require.NoError(t, err)
	return guard
}

// TestGuardCorpus uses every URL and every address of the corpus in three checks. A trigger is rejected with 422 by the
// same rule. A delivery of a run whose URL was stored in another way ends blocked by that rule. The dialler is called for
// accepted URLs only.
func TestGuardCorpus(t *testing.T) {
	t.Parallel()
	suspects, names := corpora(t)
	judged := 0
	for policy, list := range suspects {
		judged += len(list)
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			judge(t, policy, list, names)
		})
	}
	require.Greater(t, judged, 1000)
}

func judge(t *testing.T, policy string, list []suspect, names map[string]netip.Addr) {
	var mu sync.Mutex
	dialled := make(map[string]bool)
	b := setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", NoWorkers: true})
	require.NoError(t, b.svc.SetGuard(egress.Policy{
		Allow: ranges(t, policy), Resolver: stubResolver(t, names),
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dialled[address] = true
			return nil, errors.New("tapped")
		},
	}))
	pending := make(map[int64]suspect)
	for _, s := range list {
		_, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "say x", CallbackURL: s.url})
		if s.rule == "" {
			require.NoError(t, err, s.url)
		} else if s.url != "" {
			var rejected *webtrigger.RequestError
			require.ErrorAs(t, err, &rejected, s.url)
			require.Equal(t, "/callback_url", rejected.Faults[0].Pointer)
			require.True(t, strings.HasSuffix(rejected.Faults[0].Detail, " ("+s.rule+")"), "%q: %s", s.url, rejected.Faults[0].Detail)
		} else {
			continue // in Go, "" means no callback
		}
		accepted, err := b.store.CreateTrigger(b.ctx, webtrigger.NewTrigger{
			RunKey: uuid.NewString(), AssistantID: "1", BaseURL: "https://app.example.com", CallbackURL: s.url,
			Input: webtrigger.RunInput{Subject: "s", Message: "m"},
		})
		require.NoError(t, err)
		_, err = b.svc.CancelRun(b.ctx, accepted.Run.ID, "")
		require.NoError(t, err)
		pending[accepted.Run.ID] = s
	}
	require.Empty(t, dialled, "nothing is dialled at accept")
	stop := b.work()
	defer stop()
	for id, s := range pending {
		d := b.delivered(id)
		require.True(t, d.AttemptedAt.IsZero(), "%q was claimed", s.url)
		if s.rule == "" {
			require.Equal(t, webtrigger.FailureConnect, d.FailureClass, "%q: %s", s.url, d.Error)
			continue
		}
		require.Equal(t, webtrigger.DeliveryBlocked, d.State, "%q: %s", s.url, d.Error)
		require.Equal(t, webtrigger.FailureBlocked, d.FailureClass)
		require.True(t, strings.HasSuffix(d.Error, " ("+s.rule+")"), "%q: %s", s.url, d.Error)
	}
	want := make(map[string]bool)
	for _, s := range list {
		if s.rule == "" {
			want[s.dials] = true
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want["127.0.0.1:443"] {
		delete(dialled, "[::1]:443") // and may know it twice
	}
	require.Equal(t, want, dialled, "exactly the accepted are dialled")
}

// stubResolver resolves the names of the corpus, and all others to unlisted, over real UDP.
func stubResolver(t *testing.T, names map[string]netip.Addr) *net.Resolver {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(stubAnswer(buf[:n], names), from)
		}
	})
	t.Cleanup(func() {
		conn.Close()
		wg.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

func stubAnswer(query []byte, names map[string]netip.Addr) []byte {
	name, end := "", 12
	for ; query[end] != 0; end += 1 + int(query[end]) {
		name += string(query[end+1:end+1+int(query[end])]) + "."
	}
	end += 5
	addr, found := names[name]
	if !found {
		addr = netip.MustParseAddr(unlisted)
	}
	out := append([]byte(nil), query[:2]...)
	out = append(out, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	out = append(out, query[12:end]...)
	if kind := binary.BigEndian.Uint16(query[end-4:]); addr.Is4() == (kind == 1) {
		out[7] = 1
		out = append(out, 0xc0, 12)
		out = binary.BigEndian.AppendUint16(out, kind)
		out = append(out, 0, 1, 0, 0, 0, 0)
		out = binary.BigEndian.AppendUint16(out, uint16(len(addr.AsSlice())))
		out = append(out, addr.AsSlice()...)
	}
	return out
}

// onFaulty is bubble on a store with faults. posts counts the POSTs of callbacks.
func onFaulty(t *testing.T, runner webtrigger.RunnerFunc, opts webtrigger.Options, f func(b *bundle, store *faultyStore, posts *atomic.Int32)) {
	t.Helper()
	var store *faultyStore
	wrap := func(s webtrigger.Store) webtrigger.Store { store = faulty(s); return store }
	bubbleOn(t, wrap, runner, opts, func(b *bundle) {
		var posts atomic.Int32
		b.svc.StubCallbacks(func() error { return nil }, func([]byte) (int, error) { posts.Add(1); return 204, nil })
		f(b, store, &posts)
	})
}

// delivery returns the only delivery of a run.
func (b *bundle) delivery(runID int64) webtrigger.Delivery {
	b.t.Helper()
	all, err := b.store.Deliveries(b.ctx, runID)
	require.NoError(b.t, err)
	require.Len(b.t, all, 1)
	return all[0]
}

// once is a fault of the first call only.
func once(f fault) fault {
	var n atomic.Int32
	return func(ctx context.Context, do func() error) error {
		if n.Add(1) == 1 {
			return f(ctx, do)
		}
		return do()
	}
}

func TestClaimDelivery_unknownOutcome_sendsOnce(t *testing.T) {
	t.Parallel()
	plain := func(f fault) func() (fault, func()) { return func() (fault, func()) { return f, func() {} } }
	tests := map[string]struct {
		fault func() (f fault, commit func())
		lasts time.Duration // of the fault; then its calls commit
		sent  time.Duration // when the POST is sent, at the latest
	}{
		"the store is unavailable for a moment":               {plain(unavailable), time.Second, 3 * time.Second},
		"an answer is lost":                                   {plain(once(unanswered)), time.Second, 3 * time.Second},
		"the commit stalls":                                   {stalled, 5 * time.Second, 9 * time.Second},
		"the store is unavailable for longer than an attempt": {plain(unavailable), 30 * time.Second, 50 * time.Second},
		"answers are lost for longer than an attempt":         {plain(unanswered), 30 * time.Second, 50 * time.Second},
		"the commit stalls for longer than an attempt":        {stalled, 12 * time.Second, 50 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
				stop := b.work()
				f, commit := test.fault()
				store.set(f, "ClaimDelivery")
				run := b.triggerWithCallback("say x", hook)
				time.Sleep(test.lasts)
				store.set(nil, "ClaimDelivery")
				commit()
				time.Sleep(test.sent - test.lasts)
				synctest.Wait()
				require.EqualValues(b.t, 1, posts.Load())
				time.Sleep(3 * time.Minute)
				stop()
				require.EqualValues(b.t, 1, posts.Load())
				require.Equal(b.t, webtrigger.DeliveryDelivered, b.delivery(run.ID).State)
			})
		})
	}
}

func TestClaimDelivery_leaseLost_sendsAndReturnsNothing(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
		stop := b.work()
		store.set(failing(webtrigger.ErrLeaseLost), "ClaimDelivery")
		run := b.triggerWithCallback("say x", hook)
		time.Sleep(5 * time.Second)
		require.Equal(b.t, 1, store.count("ClaimDelivery"))
		stop()
		require.Zero(b.t, posts.Load())
		require.Zero(b.t, store.count("ReturnDelivery"))
		require.Equal(b.t, webtrigger.DeliveryPending, b.delivery(run.ID).State)
	})
}

// A claim that is stored after its attempt was over is returned, also when the sweep
// has already marked it unknown.
func TestReturnDelivery_storeUnavailable_isRepeatedWithoutASender(t *testing.T) {
	opts := webtrigger.Options{Callback: webtrigger.CallbackOptions{Workers: 1}}
	onFaulty(t, nil, opts, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
		stop := b.work()
		store.set(unanswered, "ClaimDelivery")
		store.set(unavailable, "ReturnDelivery")
		first := b.triggerWithCallback("say x", hook)
		time.Sleep(12 * time.Second)
		store.set(nil, "ClaimDelivery")
		second := b.triggerWithCallback("say x", "https://203.0.114.2/")
		synctest.Wait()
		require.Equal(b.t, webtrigger.DeliveryDelivered, b.delivery(second.ID).State, "the only sender is free")
		time.Sleep(80 * time.Second)
		require.Equal(b.t, webtrigger.DeliveryUnknown, b.delivery(first.ID).State)
		require.EqualValues(b.t, 1, posts.Load())
		store.set(nil, "ReturnDelivery")
		time.Sleep(3 * time.Second)
		require.Equal(b.t, webtrigger.DeliveryDelivered, b.delivery(first.ID).State)
		require.EqualValues(b.t, 2, posts.Load())
		stop()
	})
}

func TestReturnDelivery_duringDrain_isBounded(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
		stop := b.work()
		store.set(unanswered, "ClaimDelivery")
		store.set(unavailable, "ReturnDelivery")
		run := b.triggerWithCallback("say x", hook)
		synctest.Wait()
		began := time.Now()
		stop()
		require.LessOrEqual(b.t, time.Since(began), 22*time.Second)
		require.Zero(b.t, posts.Load())
		require.Equal(b.t, webtrigger.DeliverySending, b.delivery(run.ID).State)
	})
}

func TestFinishDelivery_storeUnavailable_isRepeatedWithoutASender(t *testing.T) {
	opts := webtrigger.Options{Callback: webtrigger.CallbackOptions{Workers: 1}}
	onFaulty(t, nil, opts, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
		stop := b.work()
		store.set(unavailable, "FinishDelivery")
		first := b.triggerWithCallback("say x", hook)
		b.triggerWithCallback("say x", "https://203.0.114.2/")
		time.Sleep(2 * time.Second)
		require.EqualValues(b.t, 2, posts.Load(), "the only sender does not wait")
		time.Sleep(2 * time.Minute)
		require.Equal(b.t, webtrigger.DeliveryUnknown, b.delivery(first.ID).State)
		store.set(nil, "FinishDelivery")
		time.Sleep(2 * time.Second)
		require.Equal(b.t, webtrigger.DeliveryDelivered, b.delivery(first.ID).State, "a late outcome replaces unknown")
		stop()
		require.EqualValues(b.t, 2, posts.Load())
	})
}

func TestFinishDelivery_otherError_isGivenUp(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
		stop := b.work()
		store.set(failing(errors.New("value is too long")), "FinishDelivery")
		b.triggerWithCallback("say x", hook)
		time.Sleep(time.Minute)
		require.Equal(b.t, 10, store.count("FinishDelivery"))
		stop()
		require.EqualValues(b.t, 1, posts.Load())
	})
}
