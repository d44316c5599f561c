package webtrigger_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
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
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// touchStore counts the writes of uses.
type touchStore struct {
	webtrigger.Store
	touched atomic.Int64
}

func (s *touchStore) TouchKey(ctx context.Context, keyID int64, precision time.Duration) error {
	s.touched.Add(1)
	return s.Store.TouchKey(ctx, keyID, precision)
}

func (b *bundle) ask(secret, path string) int {
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Authorization", "Bearer "+secret)
	w := httptest.NewRecorder()
	b.svc.ServeHTTP(w, r)
	return w.Code
}

func TestAKeyInUseIsStampedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &touchStore{Store: memstore.New(nil)}
		b := setupOn(t, store, nil, nil)
		key, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
		require.NoError(t, err)
		require.True(t, key.LastUsedAt.IsZero())
		for range 10 * 60 {
			require.Equal(t, http.StatusNotFound, b.ask(secret, "/api/v1/web-triggers/1/status"))
			time.Sleep(time.Second)
		}
		require.EqualValues(t, 10, store.touched.Load())
		used, err := b.svc.Key(b.ctx, key.ID)
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(used.LastUsedAt), time.Minute)
	})
}

func TestRotateKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil, nil)
		old, oldSecret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make", ExpiresAt: time.Now().Add(24 * time.Hour)})
		require.NoError(t, err)
		time.Sleep(time.Hour)
		next, secret, err := b.svc.RotateKey(b.ctx, old.ID, time.Minute)
		require.NoError(t, err)
		require.Equal(t, "Make", next.Name)
		require.Equal(t, "1", next.AssistantID)
		require.Equal(t, secret[:8], next.Prefix)
		require.Equal(t, old.ExpiresAt.Add(time.Hour), next.ExpiresAt)
		const path = "/api/v1/web-triggers/1/status"
		require.Equal(t, http.StatusNotFound, b.ask(oldSecret, path))
		require.Equal(t, http.StatusNotFound, b.ask(secret, path))
		time.Sleep(time.Minute)
		require.Equal(t, http.StatusUnauthorized, b.ask(oldSecret, path))
		require.Equal(t, http.StatusNotFound, b.ask(secret, path))
		_, _, err = b.svc.RotateKey(b.ctx, old.ID, 0)
		require.ErrorIs(t, err, webtrigger.ErrConflict)
		var wrong *webtrigger.RequestError
		_, _, err = b.svc.RotateKey(b.ctx, next.ID, -1)
		require.ErrorAs(t, err, &wrong)
		_, _, err = b.svc.RotateKey(b.ctx, 99, 0)
		require.ErrorIs(t, err, webtrigger.ErrNotFound)
	})
}

const knownSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func parseSecret(t testing.TB, text string) webtrigger.SigningSecret {
	t.Helper()
	secret, err := webtrigger.ParseSigningSecret(text)
	require.NoError(t, err)
	return secret
}

func TestSigningSecretParsesAndReveals(t *testing.T) {
	t.Parallel()
	require.Equal(t, knownSecret, parseSecret(t, knownSecret).Reveal())
	require.Equal(t, "", webtrigger.SigningSecret{}.Reveal())
	require.True(t, webtrigger.SigningSecret{}.IsZero())
	fresh, other := webtrigger.NewSigningSecret(), webtrigger.NewSigningSecret()
	require.False(t, fresh.IsZero())
	require.Len(t, fresh.Reveal(), len("whsec_")+44)
	require.NotEqual(t, fresh.Reveal(), other.Reveal())
	require.Equal(t, fresh.Reveal(), parseSecret(t, fresh.Reveal()).Reveal())
	for _, bad := range []string{"", "whsec_", "geheimgeheimgeheimgeheimgeheimge", "whsec_geheim", knownSecret + "geheim", knownSecret + "\n"} {
		_, err := webtrigger.ParseSigningSecret(bad)
		require.Error(t, err, "%q", bad)
		require.NotContains(t, err.Error(), "geheim")
	}
}

// Whatever shows a secret shows a mask, also from inside of structs whose fields
// fmt cannot ask.
func TestSigningSecretShowsNowhere(t *testing.T) {
	t.Parallel()
	secret := parseSecret(t, knownSecret)
	raw := "\x31\xf2\x90\xf6" // how its key begins
	opts := webtrigger.Options{Callback: webtrigger.CallbackOptions{Secrets: []webtrigger.SigningSecret{secret}}}
	inner := struct{ hidden webtrigger.SigningSecret }{secret}
	leased := webtrigger.LeasedDelivery{Secrets: []webtrigger.SigningSecret{secret}}
	svc, err := webtrigger.New(setup(t, nil, nil).store, webtrigger.RunnerFunc(obey), &opts)
	require.NoError(t, err)

	var shown strings.Builder
	for _, value := range []any{secret, &secret, []webtrigger.SigningSecret{secret}, opts, &opts, inner, &inner, leased, svc} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%o", "%b", "%c", "%U", "%e", "%p", "%T"} {
			fmt.Fprintf(&shown, verb+"\n", value)
		}
	}
	data, err := json.Marshal(map[string]any{"a": secret, "b": opts.Callback.Secrets, "c": leased, "d": map[string]webtrigger.SigningSecret{"k": secret}})
	require.NoError(t, err)
	shown.Write(data)
	log := slog.New(slog.NewJSONHandler(&shown, nil))
	log.Info("x", "secret", secret, "secrets", opts.Callback.Secrets, "leased", leased)
	slog.New(slog.NewTextHandler(&shown, nil)).Info("x", "secret", secret, "secrets", opts.Callback.Secrets, "opts", opts.Callback.Secrets)

	require.Contains(t, shown.String(), "whsec_(hidden)")
	for _, leak := range []string{"MfKQ9r8G", raw, fmt.Sprintf("%x", raw), fmt.Sprintf("%X", raw), "49 242 144 246", "[61 362"} {
		require.NotContains(t, shown.String(), leak)
	}
}

func TestSecretsOfAnAssistant(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	b := setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	one, two := parseSecret(t, knownSecret), webtrigger.NewSigningSecret()
	got, err := b.svc.SigningSecrets(b.ctx, "1")
	require.NoError(t, err)
	require.Empty(t, got.Secrets)
	require.Zero(t, got.SetAt)
	require.NoError(t, b.svc.SetSigningSecrets(b.ctx, "1", two, one))
	got, err = b.svc.SigningSecrets(b.ctx, "1")
	require.NoError(t, err)
	require.Equal(t, []webtrigger.SigningSecret{two, one}, got.Secrets)
	require.NotZero(t, got.SetAt)
	require.Contains(t, log.String(), "signing secrets set")
	require.NotContains(t, log.String(), "whsec_M")

	var refused *webtrigger.RequestError
	require.ErrorAs(t, b.svc.SetSigningSecrets(b.ctx, "1", one, two, one), &refused)
	require.Equal(t, "/signing_secrets", refused.Faults[0].Pointer)
	require.ErrorAs(t, b.svc.SetSigningSecrets(b.ctx, "1", webtrigger.SigningSecret{}), &refused)
	require.ErrorAs(t, b.svc.SetSigningSecrets(b.ctx, "a/b", one), &refused)
	require.Equal(t, "/assistant_id", refused.Faults[0].Pointer)
	_, err = b.svc.SigningSecrets(b.ctx, "a/b")
	require.ErrorIs(t, err, webtrigger.ErrNotFound)
	got, err = b.svc.SigningSecrets(b.ctx, "1")
	require.NoError(t, err)
	require.Len(t, got.Secrets, 2, "a rejected call must not change a key")
}

func TestSecretOptionsAreChecked(t *testing.T) {
	t.Parallel()
	one := webtrigger.NewSigningSecret()
	for _, bad := range [][]webtrigger.SigningSecret{{{}}, {one, {}}, {one, one, one}} {
		_, err := webtrigger.New(setup(t, nil, nil).store, webtrigger.RunnerFunc(obey),
			&webtrigger.Options{Callback: webtrigger.CallbackOptions{Secrets: bad}})
		require.ErrorContains(t, err, "Secrets")
	}
}

// callbackOf sends one callback in a bubble and returns it.
func (b *bundle) callbackOf(message string) webtrigger.Exchange {
	b.t.Helper()
	got := make(chan webtrigger.Exchange, 8)
	b.svc.StubReceivers(func(string) error { return nil }, func(e webtrigger.Exchange) (*egress.Response, error) {
		got <- e
		return &egress.Response{Status: 200}, nil
	})
	stop := b.work()
	defer stop()
	b.triggerWithCallback(message, "https://203.0.114.1/")
	return <-got
}

func verifies(t testing.TB, e webtrigger.Exchange, secret webtrigger.SigningSecret) bool {
	t.Helper()
	v, err := client.NewVerifier([]string{secret.Reveal()}, nil)
	require.NoError(t, err)
	return v.Verify(e.Header, e.Body) == nil
}

func TestCallbacksAreSigned(t *testing.T) {
	t.Parallel()
	wide, second := webtrigger.NewSigningSecret(), webtrigger.NewSigningSecret()
	own, next := webtrigger.NewSigningSecret(), webtrigger.NewSigningSecret()
	all := []webtrigger.SigningSecret{wide, second, own, next}
	for name, c := range map[string]struct {
		service, assistant []webtrigger.SigningSecret
		by                 []webtrigger.SigningSecret // in the order of the signatures
	}{
		"by none":                      {},
		"by the service":               {service: all[:1], by: all[:1]},
		"by both of the service":       {service: all[:2], by: all[:2]},
		"by the assistant":             {assistant: all[2:3], by: all[2:3]},
		"by both of the assistant":     {assistant: []webtrigger.SigningSecret{next, own}, by: []webtrigger.SigningSecret{next, own}},
		"by the assistant, not beyond": {service: all[:2], assistant: all[2:3], by: all[2:3]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, nil, &webtrigger.Options{
					BaseURL: "https://app.example.com", Callback: webtrigger.CallbackOptions{Secrets: c.service}})
				require.NoError(t, b.svc.SetSigningSecrets(b.ctx, "1", c.assistant...))
				e := b.callbackOf("say h\u00e9llo <&> \U0001f600")
				if len(c.by) == 0 {
					for name := range e.Header {
						require.False(t, strings.HasPrefix(strings.ToLower(name), "webhook-"), name)
					}
					return
				}
				require.Equal(t, b.run(1).Key, e.Header.Get("webhook-id"))
				require.Equal(t, fmt.Sprint(time.Now().Unix()), e.Header.Get("webhook-timestamp"))
				signatures := strings.Split(e.Header.Get("webhook-signature"), " ")
				require.Len(t, signatures, len(c.by))
				for _, secret := range all {
					want := false
					for i, by := range c.by {
						one := webtrigger.Exchange{Header: e.Header.Clone(), Body: e.Body}
						one.Header.Set("webhook-signature", signatures[i])
						require.Equal(t, by == secret, verifies(t, one, secret))
						want = want || by == secret
					}
					require.Equal(t, want, verifies(t, e, secret))
				}
			})
		})
	}
}

// A secret that is set after the end of the run signs later deliveries. A redelivery has
// the same id and body.
func TestRedelivery_newSecret_signsSameIDAndBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		own := webtrigger.NewSigningSecret()
		b := setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com",
			Callback: webtrigger.CallbackOptions{Secrets: []webtrigger.SigningSecret{webtrigger.NewSigningSecret()}}})
		got := make(chan webtrigger.Exchange, 8)
		b.svc.StubReceivers(func(string) error { return nil }, func(e webtrigger.Exchange) (*egress.Response, error) {
			got <- e
			return &egress.Response{Status: 500}, nil
		})
		stop := b.work()
		defer stop()
		b.triggerWithCallback("say x", "https://203.0.114.1/")
		first := <-got
		require.False(t, verifies(t, first, own))
		time.Sleep(time.Hour)
		require.NoError(t, b.svc.SetSigningSecrets(b.ctx, "1", own))
		_, err := b.svc.Redeliver(b.ctx, 1)
		require.NoError(t, err)
		second := <-got
		require.True(t, verifies(t, second, own))
		require.Equal(t, first.Body, second.Body)
		require.Equal(t, first.Header.Get("webhook-id"), second.Header.Get("webhook-id"))
		require.NotEqual(t, first.Header.Get("webhook-timestamp"), second.Header.Get("webhook-timestamp"))
	})
}

func TestCreateKey_expiryBeyondYear9999InUTC_isRejected(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	west := time.FixedZone("", -3600)
	last := time.Date(9999, 12, 31, 22, 59, 59, 0, west)
	key, _, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make", ExpiresAt: last})
	require.NoError(t, err)
	require.True(t, key.ExpiresAt.Equal(last))
	var rejected *webtrigger.RequestError
	_, _, err = b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make", ExpiresAt: last.Add(time.Second)})
	require.ErrorAs(t, err, &rejected)
	require.Equal(t, []webtrigger.Fault{{Pointer: "/expires_at", Detail: "must lie before the year 10000 in UTC"}}, rejected.Faults)
}

func TestKeyUses_time_stampsOncePerMinuteAndDeletes(t *testing.T) {
	t.Parallel()
	var uses webtrigger.KeyUses
	now := time.Now()
	for minute := range 10 {
		at := now.Add(time.Duration(minute) * time.Minute)
		for id := range int64(100) {
			require.True(t, uses.Due(id+1, at.Add(time.Duration(id)*100*time.Millisecond)), "minute %d, key %d", minute, id)
		}
		for id := range int64(100) {
			require.False(t, uses.Due(id+1, at.Add(59*time.Second)))
		}
	}
	for id := range int64(10_000) {
		require.True(t, uses.Due(1000+id, now.Add(time.Hour)))
	}
	uses.Due(1, now.Add(2*time.Hour))
	uses.Due(1, now.Add(3*time.Hour))
	require.LessOrEqual(t, uses.Len(), 2)
}

// ledger records the executions of a Runner.
type ledger struct {
	mu      sync.Mutex
	started map[string][]int64 // runs by assistant, in the order of their starts
	now     map[string]int     // running ones, by assistant and by key
	most    map[string]int
}

func newLedger() *ledger {
	return &ledger{started: make(map[string][]int64), now: make(map[string]int), most: make(map[string]int)}
}

// runner returns a Runner whose runs last for d.
func (l *ledger) runner(d time.Duration) webtrigger.RunnerFunc {
	return func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		places := []string{task.Run.AssistantID, fmt.Sprint("key ", task.Run.KeyID)}
		l.mu.Lock()
		l.started[task.Run.AssistantID] = append(l.started[task.Run.AssistantID], task.Run.ID)
		for _, p := range places {
			l.now[p]++
			l.most[p] = max(l.most[p], l.now[p])
		}
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, p := range places {
			l.now[p]--
		}
		return &webtrigger.Result{Text: "done"}, context.Cause(ctx)
	}
}

func (l *ledger) starts(assistantID string) []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.started[assistantID])
}

func (l *ledger) highest(place string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most[place]
}

// queue stores n queued runs of an assistant.
func (b *bundle) queue(assistantID string, keyID int64, n int) (ids []int64) {
	b.t.Helper()
	for range n {
		created, err := b.store.CreateTrigger(b.ctx, webtrigger.NewTrigger{
			RunKey: uuid.NewString(), AssistantID: assistantID, KeyID: keyID,
			Input: webtrigger.RunInput{Subject: "s", Message: "m"}, BaseURL: "https://app.example.com",
		})
		require.NoError(b.t, err)
		ids = append(ids, created.Run.ID)
	}
	return ids
}

func TestWork_backlogOfOneAssistant_anotherStartsWithTheNextSlot(t *testing.T) {
	l := newLedger()
	bubble(t, l.runner(time.Minute), webtrigger.Options{Workers: 2}, func(b *bundle) {
		b.queue("x", 0, 1000)
		stop := b.work()
		time.Sleep(30 * time.Second)
		late := b.queue("y", 0, 1)
		require.Empty(t, l.starts("y"), "no slot is free")
		time.Sleep(31 * time.Second)
		require.Equal(t, late, l.starts("y"))
		require.Len(t, l.starts("x"), 3)
		stop()
	})
}

func TestWork_unequalQueues_equalSharesOldestFirst(t *testing.T) {
	l := newLedger()
	bubble(t, l.runner(time.Second), webtrigger.Options{Workers: 4}, func(b *bundle) {
		queued := map[string][]int64{"x": b.queue("x", 0, 900), "y": b.queue("y", 0, 300), "z": b.queue("z", 0, 200)}
		stops := []func(){b.work(), workBeside(b, l.runner(time.Second), 4), workBeside(b, l.runner(time.Second), 4)}
		time.Sleep(40 * time.Second)
		for assistantID, ids := range queued {
			starts := l.starts(assistantID)
			require.InDelta(t, 160, len(starts), 8, "12 slots for 40 s: %s", assistantID)
			for at, id := range starts { // runs of one instant start in any order
				require.InDelta(t, slices.Index(ids, id), at, 12)
			}
		}
		for _, stop := range stops {
			stop()
		}
	})
}

// workBeside runs Work of another service on the store.
func workBeside(b *bundle, runner webtrigger.Runner, workers int, limits ...webtrigger.Limits) (stop func()) {
	opts := webtrigger.Options{Workers: workers}
	if len(limits) > 0 {
		opts.Limits = limits[0]
	}
	other := setupOn(b.t, b.store, runner, &opts)
	other.fake = b.fake
	return other.work()
}

func TestWork_runningPerAssistant_isReachedAndNotExceeded(t *testing.T) {
	l := newLedger()
	limits := webtrigger.Limits{RunningPerAssistant: 3}
	bubble(t, l.runner(time.Second), webtrigger.Options{Workers: 8, Limits: limits}, func(b *bundle) {
		b.queue("x", 0, 90)
		b.queue("y", 0, 30)
		stops := []func(){b.work(), workBeside(b, l.runner(time.Second), 8, limits)}
		time.Sleep(20 * time.Second)
		require.Equal(t, 3, l.highest("x"))
		require.Equal(t, 3, l.highest("y"))
		require.GreaterOrEqual(t, len(l.starts("x")), 3*18, "a run starts soon after another one has ended")
		require.Len(t, l.starts("y"), 30)
		for _, stop := range stops {
			stop()
		}
	})
}

func TestWork_runningPerKey_isReachedAndNotExceeded(t *testing.T) {
	l := newLedger()
	bubble(t, l.runner(time.Second), webtrigger.Options{Workers: 8, Limits: webtrigger.Limits{RunningPerKey: 2}}, func(b *bundle) {
		b.queue("x", 1, 90)
		b.queue("x", 2, 10)
		b.queue("x", 0, 10)
		stop := b.work()
		time.Sleep(20*time.Second + time.Millisecond)
		require.Equal(t, 2, l.highest("key 1"))
		require.Equal(t, 2, l.highest("key 2"))
		require.Greater(t, l.highest("key 0"), 2, "calls from Go have no key")
		require.InDelta(t, 2*20+10+10, len(l.starts("x")), 2)
		stop()
	})
}

func TestTrigger_runningLimit_doesNotClaim(t *testing.T) {
	bubble(t, nil, webtrigger.Options{Workers: 2, Limits: webtrigger.Limits{RunningPerAssistant: 1}}, func(b *bundle) {
		stop := b.work()
		first := b.trigger("hang")
		require.Equal(t, webtrigger.RunQueued, first.Status)
		synctest.Wait()
		second := b.trigger("say two")
		synctest.Wait()
		require.Equal(t, webtrigger.RunRunning, b.run(first.ID).Status)
		require.Equal(t, webtrigger.RunQueued, b.run(second.ID).Status)
		_, err := b.svc.CancelRun(b.ctx, first.ID, "")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, webtrigger.RunCompleted, b.run(second.ID).Status, "it starts without a poll")
		stop()
	})
}

func TestExecute_runningLimit_returnsErrConflict(t *testing.T) {
	bubble(t, nil, webtrigger.Options{NoWorkers: true, Limits: webtrigger.Limits{RunningPerAssistant: 1}}, func(b *bundle) {
		first, second := b.trigger("hang"), b.trigger("say two")
		done := make(chan error, 1)
		go func() { done <- b.svc.Execute(b.ctx, first.ID) }()
		synctest.Wait()
		err := b.svc.Execute(b.ctx, second.ID)
		require.ErrorIs(t, err, webtrigger.ErrConflict)
		require.ErrorContains(t, err, "its assistant or API key has reached its limit of running runs")
		_, err = b.svc.CancelRun(b.ctx, first.ID, "")
		require.NoError(t, err)
		time.Sleep(time.Minute) // a heartbeat sees the cancellation
		require.NoError(t, <-done)
		require.NoError(t, b.svc.Execute(b.ctx, second.ID))
		require.Equal(t, webtrigger.RunCompleted, b.run(second.ID).Status)
	})
}

func TestNew_negativeRunningLimit_returnsError(t *testing.T) {
	t.Parallel()
	for _, limits := range []webtrigger.Limits{{RunningPerAssistant: -1}, {RunningPerKey: -1}} {
		_, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(obey), &webtrigger.Options{Limits: limits})
		require.ErrorContains(t, err, "must not be negative")
	}
}

// askedStore counts how keys are read, and changes creations.
type askedStore struct {
	webtrigger.Store
	read, checked atomic.Int64
	reading       func()                                                                                // called as a key is read; nil: nothing
	create        func(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) // nil: the store's
}

func (s *askedStore) Authenticate(ctx context.Context, hash webtrigger.KeyHash, triggerID, runID int64) (webtrigger.Grant, error) {
	s.read.Add(1)
	if s.reading != nil {
		s.reading()
	}
	return s.Store.Authenticate(ctx, hash, triggerID, runID)
}

func (s *askedStore) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	if t.CheckKey {
		s.checked.Add(1)
		if s.create != nil {
			return s.create(ctx, t)
		}
	}
	return s.Store.CreateTrigger(ctx, t)
}

// send sends a trigger request to a service.
func send(svc *webtrigger.Service, secret, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/api/v1/assistants/1/web-trigger", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Request-Id", "request")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	svc.ServeHTTP(w, r)
	return w
}

const hello = `{"message": "Hello"}`

// knownKey is a key with which its service has created a trigger.
func knownKey(t *testing.T, opts *webtrigger.Options) (b *bundle, store *askedStore, key webtrigger.Key, secret string) {
	store = &askedStore{Store: memstore.New(nil)}
	b = setupOn(t, store, nil, opts)
	key, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, send(b.svc, secret, hello).Code)
	require.EqualValues(t, 1, store.read.Load())
	require.Zero(t, store.checked.Load())
	return b, store, key, secret
}

func TestTrigger_knownKey_isReadInTheCreation(t *testing.T) {
	t.Parallel()
	b, store, _, secret := knownKey(t, nil)
	for i := range 3 {
		require.Equal(t, http.StatusAccepted, send(b.svc, secret, hello).Code)
		require.EqualValues(t, i+1, store.checked.Load())
	}
	require.EqualValues(t, 1, store.read.Load())
	for range 2 { // a replay needs the key first
		require.Equal(t, http.StatusAccepted, send(b.svc, secret, hello, "Idempotency-Key", "k").Code)
	}
	require.EqualValues(t, 3, store.read.Load())
	require.Len(t, b.allRuns(), 5)
}

// Whatever a request asks for, the service that has read the key before answers as one that has not.
func TestTrigger_knownKey_answersAsAnUnknownOne(t *testing.T) {
	t.Parallel()
	changes := map[string]func(b *bundle, key webtrigger.Key){
		"nothing": func(*bundle, webtrigger.Key) {},
		"revoked": func(b *bundle, key webtrigger.Key) {
			_, err := b.svc.RevokeKey(b.ctx, key.ID)
			require.NoError(b.t, err)
		},
		"rotated": func(b *bundle, key webtrigger.Key) {
			_, _, err := b.svc.RotateKey(b.ctx, key.ID, 0)
			require.NoError(b.t, err)
		},
		"disabled": func(b *bundle, _ webtrigger.Key) {
			b.setChannel(webtrigger.Channel{AssistantID: "1", AllowCallbackURLs: true})
		},
		"no callbacks": func(b *bundle, _ webtrigger.Key) { b.setChannel(webtrigger.Channel{AssistantID: "1", Enabled: true}) },
	}
	requests := map[string][]string{ // the body, then headers
		"valid":     {hello},
		"no JSON":   {`{`},
		"too large": {`{"message": "` + strings.Repeat("x", 2<<20) + `"}`},
		"a form":    {hello, "Content-Type", "text/plain"},
		"unknown":   {`{"message": "Hello", "mesage": 1}`},
		"task":      {`{"message": "Hello", "task_definition_id": 7}`},
		"callback":  {`{"message": "Hello", "callback_url": "https://192.0.2.1/"}`},
		"blocked":   {`{"message": "Hello", "callback_url": "https://127.0.0.1/"}`},
		"busy":      {`{"message": "Hello", "conversation_key": "busy", "on_busy": "reject"}`},
		"replay":    {hello, "Idempotency-Key", "first"},
		"key":       {hello, "Idempotency-Key", "é"},
	}
	ids := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|\d+`)
	for change, apply := range changes {
		for request, r := range requests {
			t.Run(change+"/"+request, func(t *testing.T) {
				t.Parallel()
				b, _, key, secret := knownKey(t, nil)
				require.Equal(t, http.StatusAccepted, send(b.svc, secret, `{"message": "Hello", "conversation_key": "busy"}`).Code)
				require.Equal(t, http.StatusAccepted, send(b.svc, secret, hello, "Idempotency-Key", "first").Code)
				apply(b, key)
				before := len(b.allRuns())
				known := send(b.svc, secret, r[0], r[1:]...)
				stored := len(b.allRuns()) - before
				other, err := webtrigger.New(b.store, webtrigger.RunnerFunc(obey), &webtrigger.Options{BaseURL: "https://app.example.com"})
				require.NoError(t, err)
				t.Cleanup(other.CloseStreams)
				unknown := send(other, secret, r[0], r[1:]...)
				require.Equal(t, unknown.Code, known.Code)
				require.Equal(t, ids.ReplaceAllString(unknown.Body.String(), "N"), ids.ReplaceAllString(known.Body.String(), "N"))
				unknown.Header().Del("Location")
				known.Header().Del("Location")
				require.Equal(t, unknown.Header(), known.Header())
				require.Equal(t, len(b.allRuns())-before-stored, stored)
				if change == "revoked" || change == "rotated" {
					require.Equal(t, http.StatusUnauthorized, known.Code)
				}
			})
		}
	}
}

func TestTrigger_knownKey_unknownOutcome_isNotTriedAgain(t *testing.T) {
	t.Parallel()
	b, store, _, secret := knownKey(t, nil)
	store.create = func(ctx context.Context, trigger webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
		_, err := store.Store.CreateTrigger(ctx, trigger)
		require.NoError(t, err)
		return webtrigger.CreatedTrigger{}, webtrigger.ErrUnavailable
	}
	w := send(b.svc, secret, hello)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), "outcome_unknown")
	require.Len(t, b.allRuns(), 2)
}

func TestTrigger_knownKey_declined_isReadFirst(t *testing.T) {
	t.Parallel()
	b, store, _, secret := knownKey(t, nil)
	store.create = func(context.Context, webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
		return webtrigger.CreatedTrigger{}, webtrigger.ErrKeyChanged
	}
	for i := range 3 {
		require.Equal(t, http.StatusAccepted, send(b.svc, secret, hello).Code)
		require.EqualValues(t, i+2, store.read.Load())
	}
	require.Len(t, b.allRuns(), 4)
}

func TestTrigger_knownKey_rejected_takesOneTokenAtMost(t *testing.T) {
	t.Parallel()
	b, _, _, secret := knownKey(t, &webtrigger.Options{BaseURL: "https://app.example.com", Limits: webtrigger.Limits{TriggersPerKey: 4, Window: time.Hour}})
	require.Equal(t, http.StatusBadRequest, send(b.svc, secret, `{`).Code)
	require.Equal(t, http.StatusUnprocessableEntity, send(b.svc, secret, `{"message": "Hello", "callback_url": "https://localhost/"}`).Code)
	var codes []int
	for range 4 {
		codes = append(codes, send(b.svc, secret, hello).Code)
	}
	require.Contains(t, [][]int{{202, 202, 202, 429}, {202, 202, 429, 429}}, codes) // the look-up of a host name counts
}

// A key that was revoked elsewhere is rejected before its body has come, as any other invalid
// key, and the connection is of no further use.
func TestTrigger_knownKey_revokedElsewhere_isRejectedWithoutTheBody(t *testing.T) {
	t.Parallel()
	for name, expect := range map[string]string{"the body does not come": "", "the client waits": "Expect: 100-continue\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, store, key, secret := knownKey(t, nil)
			server := httptest.NewServer(b.svc)
			defer server.Close()
			_, err := store.RevokeKey(b.ctx, key.ID)
			require.NoError(t, err)
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
			_, err = fmt.Fprintf(conn, "POST /api/v1/assistants/1/web-trigger HTTP/1.1\r\nHost: app.example.com\r\nAuthorization: Bearer %s\r\n"+
				"Content-Type: application/json\r\nContent-Length: 20\r\n%s\r\n", secret, expect)
			require.NoError(t, err)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			defer response.Body.Close()
			require.Equal(t, http.StatusUnauthorized, response.StatusCode)
			require.Len(t, b.allRuns(), 1)
		})
	}
}

// A body that comes slowly is read to its end while the key is valid.
func TestTrigger_knownKey_slowBody_isRead(t *testing.T) {
	t.Parallel()
	b, store, _, secret := knownKey(t, nil)
	server := httptest.NewServer(b.svc)
	defer server.Close()
	from, to := io.Pipe()
	read := make(chan struct{})
	store.reading = sync.OnceFunc(func() { close(read) })
	r, err := http.NewRequestWithContext(b.ctx, "POST", server.URL+"/api/v1/assistants/1/web-trigger", from)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	go func() {
		defer to.Close()
		_, _ = io.WriteString(to, hello[:5])
		<-read // meanwhile the key is
		_, _ = io.WriteString(to, hello[5:])
	}()
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusAccepted, response.StatusCode)
	require.EqualValues(t, 1, store.checked.Load())
	require.Equal(t, http.StatusAccepted, send(b.svc, secret, hello).Code)
}

func (b *bundle) allRuns() []webtrigger.Run {
	b.t.Helper()
	runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 100}})
	require.NoError(b.t, err)
	return runs
}
