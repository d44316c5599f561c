//go:build unix

package outagetest_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/runcheck"
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "6") // most of the time, the tests wait
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		pgtest.StopShared()
		os.Exit(code)
	}))
}

// long makes the outages as long as those of production, and the runs as many as these
// replicas can have; see `make outage-long`.
var long = os.Getenv("WEBTRIGGER_OUTAGE_LONG") != ""

// lease is that of the replicas, unless a test has another one. A renewal has a third
// of it, and a busy machine needs a second or two for that if it must connect.
var lease = scaled(5*time.Second, 30*time.Second)

const (
	assistant = "1"
	patience  = 2 * time.Minute
)

func scaled(short, whole time.Duration) time.Duration {
	if long {
		return whole
	}
	return short
}

func number(small, whole int) int {
	if long {
		return whole
	}
	return small
}

// place is a store with replicas, a receiver of callbacks, and a record of the calls
// of Runners.
type place struct {
	*testing.T
	store    webtrigger.Store // reads what is stored, past all faults
	receiver *receiver
	key      string
	logs     logtest.Buffer
	gate     chan struct{} // Runners of "hold" return when it is closed
	open     func()
	pace     time.Duration // between their events
	lease    time.Duration // of the replicas
	noClaims bool          // replicas that join claim no runs at first

	mu    sync.Mutex
	calls []call
}

// call is one call of a Runner.
type call struct {
	run     int64
	replica string
}

func newPlace(t *testing.T, store webtrigger.Store) *place {
	t.Helper()
	p := &place{T: t, store: store, receiver: newReceiver(t), key: strings.Repeat("0f", 32), gate: make(chan struct{}),
		pace: 300 * time.Millisecond, lease: lease}
	p.open = sync.OnceFunc(func() { close(p.gate) })
	t.Cleanup(func() {
		if t.Failed() {
			lines := strings.SplitAfter(p.logs.String(), "\n")
			t.Logf("the last of %d log lines:\n%s", len(lines), strings.Join(lines[max(0, len(lines)-40):], ""))
		}
	})
	svc, err := webtrigger.New(store, nil, &webtrigger.Options{NoWorkers: true})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: assistant, Enabled: true, AllowCallbackURLs: true}))
	_, err = svc.ImportKey(t.Context(), assistant, webtrigger.KeySpec{Name: "outage"}, p.key)
	require.NoError(t, err)
	return p
}

// replica is a process that works, with a store of its own.
type replica struct {
	*webtrigger.Service
	store *controlled
	stop  func() // drains
}

// controlled is a store whose claims wait until they are allowed, and which records
// the tokens.
type controlled struct {
	webtrigger.Store
	noClaims atomic.Bool

	mu         sync.Mutex
	registered bool
	tokens     []webtrigger.Lease
}

func (c *controlled) RegisterProcess(ctx context.Context, process webtrigger.Process) error {
	err := c.Store.RegisterProcess(ctx, process)
	if err == nil {
		c.mu.Lock()
		c.registered = true
		c.mu.Unlock()
	}
	return err
}

func (c *controlled) ClaimRuns(ctx context.Context, claim webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	if c.noClaims.Load() {
		return nil, nil
	}
	claimed, err := c.Store.ClaimRuns(ctx, claim)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, run := range claimed {
		c.tokens = append(c.tokens, run.Lease)
	}
	return claimed, err
}

func (c *controlled) CreateTrigger(ctx context.Context, trigger webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	created, err := c.Store.CreateTrigger(ctx, trigger)
	if err == nil && created.Lease != nil && !created.Replayed {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tokens = append(c.tokens, *created.Lease)
	}
	return created, err
}

// claimed are the claims that were made.
func (c *controlled) claimed() []webtrigger.Lease {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.tokens)
}

func (c *controlled) isRegistered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.registered
}

// join starts a replica and returns when it may claim runs. It owns the store.
func (p *place) join(name string, store webtrigger.Store, opts webtrigger.Options) *replica {
	p.Helper()
	r := p.start(name, store, opts)
	eventually(p.T, r.store.isRegistered)
	return r
}

// start is join that does not wait.
func (p *place) start(name string, store webtrigger.Store, opts webtrigger.Options) *replica {
	p.Helper()
	opts.BaseURL = "https://app.example.com"
	opts.Lease = p.lease
	opts.Logger = slog.New(slog.NewTextHandler(&p.logs, &slog.HandlerOptions{Level: slog.LevelWarn})).With("replica", name)
	opts.Callback.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	opts.Callback.RootCAs = p.receiver.roots
	r := &replica{store: &controlled{Store: store}}
	r.store.noClaims.Store(p.noClaims)
	svc, err := webtrigger.New(r.store, webtrigger.RunnerFunc(p.runner(name)), &opts)
	require.NoError(p, err)
	r.Service = svc
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		assert.NoError(p, svc.Work(ctx))
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	p.Cleanup(func() {
		p.open()
		r.stop()
	})
	return r
}

// runner stores one event and returns, or, if the message is "hold", stores events
// until the gate opens. Each event names its call.
func (p *place) runner(replica string) webtrigger.RunnerFunc {
	return func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
		p.mu.Lock()
		p.calls = append(p.calls, call{task.Run.ID, replica})
		number := len(p.calls)
		p.mu.Unlock()
		for i := 0; ; i++ {
			if err := emit("x_step", map[string]int{"call": number, "n": i}); err != nil {
				return nil, err
			}
			if task.Input.Message != "hold" {
				break
			}
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-p.gate:
				return &webtrigger.Result{Text: fmt.Sprint(number)}, nil
			case <-time.After(p.pace):
			}
		}
		return &webtrigger.Result{Text: fmt.Sprint(number)}, nil
	}
}

// callsOf returns the calls of Runners by run.
func (p *place) callsOf() map[int64][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	byRun := make(map[int64][]string)
	for _, c := range p.calls {
		byRun[c.run] = append(byRun[c.run], c.replica)
	}
	return byRun
}

// calledBy counts the calls of Runners by a replica.
func (p *place) calledBy(name string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		if c.replica == name {
			n++
		}
	}
	return n
}

func (p *place) callCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

// trigger creates n runs with callbacks at a replica.
func (p *place) trigger(r *replica, n int, message string) {
	p.Helper()
	p.triggerAll(r, n, webtrigger.TriggerRequest{Message: message, CallbackURL: p.receiver.url()})
}

func (p *place) triggerAll(r *replica, n int, request webtrigger.TriggerRequest) {
	p.Helper()
	var all sync.WaitGroup
	each := make(chan struct{}, n)
	for range n {
		each <- struct{}{}
	}
	close(each)
	for range min(n, 16) {
		all.Go(func() {
			for range each {
				_, err := r.Trigger(p.Context(), assistant, request)
				assert.NoError(p, err)
			}
		})
	}
	all.Wait()
	require.False(p, p.Failed())
}

// post triggers over HTTP.
func (p *place) post(r *replica, idempotencyKey string) *httptest.ResponseRecorder {
	body := fmt.Sprintf(`{"message":"pay the invoice","callback_url":%q}`, p.receiver.url())
	req := httptest.NewRequestWithContext(p.Context(), http.MethodPost, "/api/v1/assistants/"+assistant+"/web-trigger", strings.NewReader(body))
	req.Header = http.Header{"Authorization": {"Bearer " + p.key}, "Content-Type": {"application/json"}, "Idempotency-Key": {idempotencyKey}}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

// runs are all runs of the store, the newest first.
func (p *place) runs() []webtrigger.Run {
	p.Helper()
	all, err := runcheck.All(p.Context(), p.store, webtrigger.RunQuery{})
	require.NoError(p, err)
	return all
}

// tally counts the runs by status.
func (p *place) tally() map[webtrigger.RunStatus]int {
	p.Helper()
	counts := make(map[webtrigger.RunStatus]int)
	for _, run := range p.runs() {
		counts[run.Status]++
	}
	return counts
}

// awaitRunning waits until n Runners hold their runs, and have stored an event.
func (p *place) awaitRunning(n int) {
	p.Helper()
	eventually(p.T, func() bool { return p.tally()[webtrigger.RunRunning] == n && len(p.callsOf()) == n })
	for _, run := range p.runs() {
		eventually(p.T, func() bool { return len(p.events(run)) > 2 })
	}
}

func (p *place) events(run webtrigger.Run) []webtrigger.Event {
	p.Helper()
	page, err := p.store.Events(p.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 1000})
	require.NoError(p, err)
	return page.Events
}

// settle waits until all runs have ended and all callbacks were sent, and checks what
// is true after every outage. It returns how the runs ended.
func (p *place) settle(n int) map[webtrigger.RunStatus]int {
	p.Helper()
	deadline := time.Now().Add(patience)
	for !p.settled() {
		require.True(p, time.Now().Before(deadline), "runs must end and their callbacks must be sent: %v, calls %d, callbacks %v",
			p.tally(), len(p.callsOf()), p.deliveries())
		time.Sleep(100 * time.Millisecond)
	}
	runs := p.runs()
	require.Len(p, runs, n)
	for _, run := range runs {
		run, err := p.store.RunByID(p.Context(), run.ID) // a list has no results
		require.NoError(p, err)
		p.checkEvents(run)
		require.Equal(p, p.receiver.expected(run), p.receiver.count(run.Key), "callbacks of run %d", run.ID)
	}
	return p.tally()
}

func (p *place) settled() bool {
	for _, run := range p.runs() {
		if !run.Status.Terminal() || run.CallbackURL != "" && run.Callback.State != webtrigger.DeliveryDelivered {
			return false
		}
	}
	return true
}

// deliveries counts the deliveries by state.
func (p *place) deliveries() map[webtrigger.DeliveryState]int {
	p.Helper()
	counts := make(map[webtrigger.DeliveryState]int)
	for _, run := range p.runs() {
		deliveries, err := p.store.Deliveries(p.Context(), run.ID)
		require.NoError(p, err)
		for _, d := range deliveries {
			counts[d.State]++
		}
	}
	return counts
}

// checkEvents checks that a run has no gap and one end, and that after each claim only
// one call of the Runner has stored events.
func (p *place) checkEvents(run webtrigger.Run) {
	p.Helper()
	require.Empty(p, runcheck.Events(run, p.events(run), nil))
}

func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(100 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "not within %v", patience)
	}
}
