package callbacktest

import (
	"context"
	"crypto/x509"
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// The points at which a replica is cut off from its store, as if its process had been killed there. It finishes what it has
// begun outside of the store, such as a POST, like a process that ends slowly.
const (
	afterEnd      = "a run has ended"
	afterLease    = "deliveries are leased"
	beforeClaim   = "the connection stands"
	afterClaim    = "the claim is committed"
	beforeOutcome = "the answer has come"
	afterOutcome  = "the outcome is stored"
)

func points() []string {
	return []string{afterEnd, afterLease, beforeClaim, afterClaim, beforeOutcome, afterOutcome}
}

const deaths = 20 // at each point

// Kills ends n runs while replicas are killed at every named point and replaced. Then it checks the callbacks: no run has
// two POSTs, and each that is missing is unknown. pass advances the store's time.
func Kills(t *testing.T, store webtrigger.Store, pass func(time.Duration), n int) {
	t.Helper()
	receiver := newCounter(t)
	reaper := &reaper{left: make(map[string]int), visits: make(map[string]int)}
	for _, point := range points() {
		reaper.left[point] = max(1, min(deaths, n/50))
		reaper.visits[point] = mathrand.N(every(point))
	}
	admin := replica(t, store, receiver.roots, 0)
	require.NoError(t, admin.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	for range Replicas {
		wg.Go(func() {
			for ctx.Err() == nil {
				live(ctx, t, store, receiver.roots, reaper, &wg)
			}
		})
	}
	ids := make([]int64, n)
	for i := range ids {
		run, err := admin.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "run " + strconv.Itoa(i), CallbackURL: receiver.url})
		require.NoError(t, err)
		ids[i] = run.ID
	}
	outlive(t, store, ids, pass)
	stop()
	wg.Wait()
	checkCallbacks(t, store, receiver, ids)
	for point, left := range reaper.left {
		require.Zero(t, left, "no process was killed at: %s", point)
	}
}

func replica(t *testing.T, store webtrigger.Store, roots *x509.CertPool, workers int) *webtrigger.Service {
	svc, err := webtrigger.New(store, webtrigger.RunnerFunc(func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
		return &webtrigger.Result{Text: "done"}, nil
	}), &webtrigger.Options{
		BaseURL: "https://app.example.com/base", Workers: workers, NoWorkers: workers == 0, Lease: time.Minute, DrainTimeout: -1,
		Callback: webtrigger.CallbackOptions{
			Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots, Workers: 8, PerHost: 8,
		},
	})
	require.NoError(t, err)
	return svc
}

// live is the life of one replica. Its last moments are not waited for.
func live(ctx context.Context, t *testing.T, store webtrigger.Store, roots *x509.CertPool, reaper *reaper, wg *sync.WaitGroup) {
	ctx, end := context.WithCancel(ctx)
	svc := replica(t, &mortal{Store: store, reaper: reaper, end: end}, roots, 4)
	wg.Go(func() {
		if err := svc.Work(ctx); err != nil {
			t.Errorf("work: %v", err)
		}
	})
	<-ctx.Done()
}

// outlive waits until every run's callback has an outcome. When nothing moves, time is what is missing.
func outlive(t *testing.T, store webtrigger.Store, ids []int64, pass func(time.Duration)) {
	t.Helper()
	const patience, leap = time.Second, 16 * time.Second
	left, moved := ids, time.Now()
	require.Eventually(t, func() bool {
		for len(left) > 0 {
			run, err := store.RunByID(t.Context(), left[0])
			if err != nil || run.Callback.DeliveryID == 0 {
				if time.Since(moved) > patience {
					pass(leap)
					moved = time.Now()
				}
				return false
			}
			left, moved = left[1:], time.Now()
		}
		return true
	}, 10*time.Minute, 20*time.Millisecond, "callbacks are missing")
}

// checkCallbacks checks the outcome of every run's callback.
func checkCallbacks(t *testing.T, store webtrigger.Store, receiver *counter, ids []int64) {
	t.Helper()
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	became := make(map[string]int)
	for _, id := range ids {
		run, err := store.RunByID(t.Context(), id)
		require.NoError(t, err)
		deliveries, err := store.Deliveries(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, deliveries, 1, "run %d", id)
		d := deliveries[0]
		posts := receiver.bodies[run.Key]
		became[fmt.Sprintf("%d POSTs, %s", len(posts), d.State)]++
		switch len(posts) {
		case 0:
			require.Equal(t, webtrigger.DeliveryUnknown, d.State, "run %d: %s", id, d.Error)
		case 1:
			require.Contains(t, []webtrigger.DeliveryState{webtrigger.DeliveryDelivered, webtrigger.DeliveryUnknown}, d.State, "run %d: %s", id, d.Error)
			require.Equal(t, body(t, run), posts[0])
		default:
			require.Failf(t, "twice", "%d POSTs of run %d, %s", len(posts), id, d.State)
		}
	}
	t.Logf("%d runs: %v", len(ids), became)
	require.Positive(t, became["0 POSTs, unknown"], "claimed and not sent")
	require.Positive(t, became["1 POSTs, unknown"], "sent and not recorded")
	require.Positive(t, became["1 POSTs, delivered"])
}

// reaper decides which replica is killed at which point.
type reaper struct {
	mu     sync.Mutex
	left   map[string]int
	visits map[string]int // so far, from a random number on
}

// every is how many visits of a point there are to a death. One lease may be for all
// eight senders, so there are fewer of them.
func every(point string) int {
	if point == afterLease {
		return 3
	}
	return 10
}

func (r *reaper) takes(point string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.visits[point]++
	if r.left[point] == 0 || r.visits[point]%every(point) > 0 {
		return false
	}
	r.left[point]--
	return true
}

// mortal connects a replica to the store until it is killed. After that, its writes of deliveries and ends of runs do not
// reach the store.
type mortal struct {
	webtrigger.Store
	reaper *reaper
	end    func()

	mu   sync.Mutex
	dead bool
}

// errCut ends the work of a killed process at once, so that it behaves like a process
// that does not exist.
var errCut = fmt.Errorf("cut off: %w", webtrigger.ErrLeaseLost)

func (m *mortal) cut(point string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dead && m.reaper.takes(point) {
		m.dead = true
		m.end()
	}
	if m.dead {
		return errCut
	}
	return nil
}

func (m *mortal) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errCut
	}
	return nil
}

func (m *mortal) RenewProcess(ctx context.Context, p webtrigger.Process) (webtrigger.Renewed, error) {
	if err := m.alive(); err != nil {
		return webtrigger.Renewed{}, err
	}
	return m.Store.RenewProcess(ctx, p)
}

func (m *mortal) RemoveProcess(ctx context.Context, id string) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.Store.RemoveProcess(ctx, id)
}

func (m *mortal) RequeueRun(ctx context.Context, lease webtrigger.Lease, requeue webtrigger.Requeue) (webtrigger.Run, error) {
	if err := m.alive(); err != nil {
		return webtrigger.Run{}, err
	}
	return m.Store.RequeueRun(ctx, lease, requeue)
}

func (m *mortal) FinishRun(ctx context.Context, lease webtrigger.Lease, finish webtrigger.Finish) (webtrigger.Run, error) {
	if err := m.alive(); err != nil {
		return webtrigger.Run{}, err
	}
	run, err := m.Store.FinishRun(ctx, lease, finish)
	if err == nil {
		err = m.cut(afterEnd)
	}
	return run, err
}

func (m *mortal) LeaseDeliveries(ctx context.Context, claim webtrigger.DeliveryQuery) ([]webtrigger.LeasedDelivery, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	leased, err := m.Store.LeaseDeliveries(ctx, claim)
	if err == nil && len(leased) > 0 {
		err = m.cut(afterLease)
	}
	if err != nil {
		return nil, err
	}
	return leased, nil
}

func (m *mortal) ClaimDelivery(ctx context.Context, lease webtrigger.DeliveryLease) error {
	if err := m.cut(beforeClaim); err != nil {
		return err
	}
	if err := m.Store.ClaimDelivery(ctx, lease); err != nil {
		return err
	}
	return m.cut(afterClaim)
}

func (m *mortal) ReturnDelivery(ctx context.Context, lease webtrigger.DeliveryLease) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.Store.ReturnDelivery(ctx, lease)
}

func (m *mortal) FinishDelivery(ctx context.Context, lease webtrigger.DeliveryLease, o webtrigger.DeliveryOutcome) error {
	if err := m.cut(beforeOutcome); err != nil {
		return err
	}
	if err := m.Store.FinishDelivery(ctx, lease, o); err != nil {
		return err
	}
	return m.cut(afterOutcome)
}

// Time is a clock that runs with the real one, and can be put forward.
type Time struct {
	mu    sync.Mutex
	ahead time.Duration
}

// Now is the time.
func (c *Time) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// started is the instant from which Elapsed counts.
var started = time.Now()

// Elapsed is the time since started. Leases count in it.
func (c *Time) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(started) + c.ahead
}

// Pass puts the clock forward.
func (c *Time) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}
