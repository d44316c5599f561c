// Package callbacktest tests the guarantees of callbacks with a whole system: several services on one store, real TLS, and
// a receiver that counts. Callers provide the stores, so that every kind of store can be tested.
package callbacktest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// Replicas is how many services work on one store.
const Replicas = 3

// Runs returns how many runs a race has: the value of WEBTRIGGER_CALLBACK_RUNS, or n if it is not set.
func Runs(t testing.TB, n int) int {
	t.Helper()
	text := os.Getenv("WEBTRIGGER_CALLBACK_RUNS")
	if text == "" {
		return n
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

const (
	runTimeout = 120 * time.Millisecond // half of the runs take 0 to twice as long
	callers    = 64                     // trigger and cancel at the same time
)

// Race ends n runs on several services, by completion, failure, cancellation and deadline at about the same moment. It
// checks that each has exactly one POST, whose body equals the stored run. stores connect the replicas to one empty store:
// different values, or the same one several times.
func Race(t *testing.T, stores [Replicas]webtrigger.Store, n int) {
	t.Helper()
	receiver := newCounter(t)
	var services [Replicas]*webtrigger.Service
	for i, store := range stores {
		svc, err := webtrigger.New(store, webtrigger.RunnerFunc(work), &webtrigger.Options{
			BaseURL: "https://app.example.com/base", Workers: 32, RunTimeout: runTimeout,
			Callback: webtrigger.CallbackOptions{
				Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: receiver.roots, PerHost: 32,
			},
		})
		require.NoError(t, err)
		services[i] = svc
	}
	require.NoError(t, services[0].SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	stop := start(t, services[:])
	accepted := accept(t, services[:], receiver.url, n)
	await(t, services[0], accepted)
	stop()
	check(t, services[0], receiver, accepted)
}

// work takes no time or about as long as a run may, and ends well or badly.
func work(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	timer := time.NewTimer(time.Duration(mathrand.IntN(2)) * mathrand.N(2*runTimeout))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		if mathrand.N(2) == 0 {
			return nil, context.Cause(ctx)
		}
	case <-timer.C:
		if mathrand.N(3) == 0 {
			return nil, fmt.Errorf("no luck with %q", task.Input.Message)
		}
	}
	return &webtrigger.Result{Text: "Done: <" + task.Input.Message + "> \U0001f600 \u2028"}, nil
}

// start runs Work in all services; stop drains them one after the other.
func start(t *testing.T, services []*webtrigger.Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, svc := range services {
		wg.Go(func() {
			if err := svc.Work(ctx); err != nil {
				t.Errorf("work: %v", err)
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// accept triggers n runs at random services, and has half of them cancelled at another while they are under way.
func accept(t *testing.T, services []*webtrigger.Service, url string, n int) []int64 {
	ids := make([]int64, n)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c; i < n; i += callers {
				run, err := services[mathrand.N(len(services))].Trigger(t.Context(), "1", webtrigger.TriggerRequest{
					Message: "run " + strconv.Itoa(i), CallbackURL: url})
				if err != nil {
					t.Errorf("trigger: %v", err)
					return
				}
				ids[i] = run.ID
				if mathrand.N(2) == 0 {
					continue
				}
				wait := time.NewTimer(mathrand.N(runTimeout))
				<-wait.C
				if _, err := services[mathrand.N(len(services))].CancelRun(t.Context(), run.ID, "by caller"); err != nil {
					t.Errorf("cancel: %v", err)
				}
			}
		})
	}
	wg.Wait()
	require.False(t, t.Failed())
	return ids
}

// await waits until every run's callback has an outcome.
func await(t *testing.T, svc *webtrigger.Service, ids []int64) {
	t.Helper()
	left := ids
	require.Eventually(t, func() bool {
		for len(left) > 0 {
			run, err := svc.RunByID(t.Context(), left[0])
			if err != nil || run.Callback.DeliveryID == 0 {
				return false
			}
			left = left[1:]
		}
		return true
	}, 10*time.Minute, 20*time.Millisecond, "%d callbacks are missing", len(left))
}

func check(t *testing.T, svc *webtrigger.Service, receiver *counter, ids []int64) {
	t.Helper()
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	ended := make(map[webtrigger.RunStatus]int)
	for _, id := range ids {
		run, err := svc.RunByID(t.Context(), id)
		require.NoError(t, err)
		ended[run.Status]++
		deliveries, err := svc.Deliveries(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, deliveries, 1, "run %d", id)
		require.Equal(t, webtrigger.DeliveryDelivered, deliveries[0].State, "run %d: %s", id, deliveries[0].Error)
		require.Equal(t, webtrigger.DeliveryDelivered, run.Callback.State)
		require.Len(t, receiver.bodies[run.Key], 1, "POSTs of run %d", id)
		require.Equal(t, body(t, run), receiver.bodies[run.Key][0])
	}
	require.Len(t, receiver.bodies, len(ids), "no other run may have a callback")
	t.Logf("%d runs: %v", len(ids), ended)
	for _, status := range []webtrigger.RunStatus{webtrigger.RunCompleted, webtrigger.RunFailed, webtrigger.RunCancelled, webtrigger.RunTimedOut} {
		require.GreaterOrEqual(t, ended[status], len(ids)/200, "the race was none: %v", ended)
	}
}

// body is the callback of a run, built a second time by the rules of docs/callbacks.md.
func body(t *testing.T, run webtrigger.Run) map[string]any {
	t.Helper()
	orNil := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	fields := map[string]any{
		"run_key": run.Key, "status": string(run.Status), "status_detail": orNil(run.StatusDetail), "result_text": nil,
		"error_message": orNil(run.ErrorMessage), "conversation_id": json.Number(strconv.FormatInt(run.ConversationID, 10)),
		"events_url":   fmt.Sprintf("https://app.example.com/base/conversations/%d/agent-events?run_id=%d", run.ConversationID, run.ID),
		"completed_at": run.CompletedAt.UTC().Format("2006-01-02T15:04:05.999999-07:00"),
	}
	if run.Status == webtrigger.RunCompleted {
		fields["result_text"] = run.Result
	}
	return fields
}

// counter is a receiver that keeps every body under its run_key.
type counter struct {
	url   string
	roots *x509.CertPool

	mu     sync.Mutex
	bodies map[string][]map[string]any
}

func newCounter(t *testing.T) *counter {
	c := &counter{bodies: make(map[string][]map[string]any), roots: x509.NewCertPool()}
	server := httptest.NewUnstartedServer(c)
	certificate := selfSigned(t)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.CurveP256}}
	server.StartTLS()
	t.Cleanup(server.Close)
	c.roots.AddCert(certificate.Leaf)
	c.url = server.URL
	return c
}

// selfSigned is a certificate for 127.0.0.1 whose key signs fast: there is a handshake for every callback.
func selfSigned(t *testing.T) tls.Certificate {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	decoder := json.NewDecoder(r.Body)
	decoder.UseNumber()
	var fields map[string]any
	err := decoder.Decode(&fields)
	if _, more := decoder.Token(); err != nil || more != io.EOF || r.Method != http.MethodPost {
		http.Error(w, "the body is not a callback", http.StatusBadRequest)
		return
	}
	key, _ := fields["run_key"].(string)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies[key] = append(c.bodies[key], fields)
	w.Header().Set("Connection", "close") // right after the answer
}
