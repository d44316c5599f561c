package webtrigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// process is one replica of a simulation: a service whose way to the store is
// slow, loses answers, and can be cut.
type process struct {
	webtrigger.Store // the shared store, for what is not overridden

	w      *world
	svc    *webtrigger.Service
	events http.Handler
	stop   func() // drains, and returns when Work has

	mu      sync.Mutex
	severed chan struct{} // nil: connected; closed by heal
}

func (w *world) spawn() *process {
	p := &process{Store: w.store, w: w}
	options := w.options
	options.Streams.MemoryBytes = 1500 // readers fall out of the windows
	svc, err := webtrigger.New(p, webtrigger.RunnerFunc(w.run), &options)
	require.NoError(w.t, err)
	w.t.Cleanup(svc.CloseStreams)
	svc.StubCallbacks(p.connect, p.post)
	p.svc = svc
	p.events = svc.EventsHandler(func(*http.Request, webtrigger.Access) error { return nil })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := svc.Work(ctx); err != nil {
			w.t.Errorf("work: %v", err)
		}
	}()
	p.stop = func() {
		cancel()
		<-done
	}
	w.mu.Lock()
	w.spawned = append(w.spawned, p)
	w.mu.Unlock()
	return p
}

// cut severs the process from the store, heal mends that.
func (p *process) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.severed == nil {
		p.severed = make(chan struct{})
	}
}

func (p *process) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.severed != nil {
		close(p.severed)
		p.severed = nil
	}
}

var errLost = fmt.Errorf("the answer is lost: %w", webtrigger.ErrUnavailable)

// call makes one call of the store: it takes its time, waits while the process
// is cut off, and may lose the request or, worse, the answer.
func call[T any](ctx context.Context, p *process, do func() (T, error)) (T, error) {
	var none T
	p.mu.Lock()
	severed := p.severed
	p.mu.Unlock()
	if severed != nil {
		select {
		case <-severed:
		case <-ctx.Done():
			return none, fmt.Errorf("cut off: %w", errors.Join(webtrigger.ErrUnavailable, ctx.Err()))
		}
	}
	p.w.pause(5 * time.Millisecond)
	if p.w.fault(40) {
		return none, errLost
	}
	v, err := do()
	if p.w.fault(40) {
		return none, errLost
	}
	return v, err
}

// attempt is call for methods that return an error only.
func attempt(ctx context.Context, p *process, do func() error) error {
	_, err := call(ctx, p, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

func (p *process) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	return call(ctx, p, func() (webtrigger.CreatedTrigger, error) { return p.Store.CreateTrigger(ctx, t) })
}

func (p *process) ClaimRuns(ctx context.Context, c webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	return call(ctx, p, func() ([]webtrigger.ClaimedRun, error) { return p.Store.ClaimRuns(ctx, c) })
}

func (p *process) RenewLeases(ctx context.Context, l []webtrigger.Lease, d time.Duration) ([]webtrigger.Renewal, error) {
	if p.w.fault(10) {
		return nil, errLost
	}
	return call(ctx, p, func() ([]webtrigger.Renewal, error) { return p.Store.RenewLeases(ctx, l, d) })
}

func (p *process) AppendEvents(ctx context.Context, l webtrigger.Lease, b webtrigger.EventBatch) error {
	return attempt(ctx, p, func() error { return p.Store.AppendEvents(ctx, l, b) })
}

func (p *process) FinishRun(ctx context.Context, l webtrigger.Lease, f webtrigger.Finish) (webtrigger.Run, error) {
	return call(ctx, p, func() (webtrigger.Run, error) { return p.Store.FinishRun(ctx, l, f) })
}

func (p *process) RequeueRun(ctx context.Context, l webtrigger.Lease, b webtrigger.EventBatch) (webtrigger.Run, error) {
	return call(ctx, p, func() (webtrigger.Run, error) { return p.Store.RequeueRun(ctx, l, b) })
}

func (p *process) SweepRuns(ctx context.Context, s webtrigger.Sweep) ([]webtrigger.Run, error) {
	return call(ctx, p, func() ([]webtrigger.Run, error) { return p.Store.SweepRuns(ctx, s) })
}

func (p *process) RequestStop(ctx context.Context, id int64, s webtrigger.Stop, l *webtrigger.Lease) (webtrigger.Run, error) {
	return call(ctx, p, func() (webtrigger.Run, error) { return p.Store.RequestStop(ctx, id, s, l) })
}

func (p *process) Events(ctx context.Context, q webtrigger.EventQuery) (webtrigger.EventPage, error) {
	q.Limit = min(q.Limit, 3) // many pages
	return call(ctx, p, func() (webtrigger.EventPage, error) { return p.Store.Events(ctx, q) })
}

func (p *process) LastEventIDs(ctx context.Context, ids []int64) (map[int64]int64, error) {
	return call(ctx, p, func() (map[int64]int64, error) { return p.Store.LastEventIDs(ctx, ids) })
}

// Watch loses hints.
func (p *process) Watch(ctx context.Context, notify func(webtrigger.Hint)) error {
	return p.Store.Watch(ctx, func(h webtrigger.Hint) {
		if !p.w.fault(4) {
			notify(h)
		}
	})
}

func (p *process) LeaseDeliveries(ctx context.Context, c webtrigger.DeliveryQuery) ([]webtrigger.LeasedDelivery, error) {
	return call(ctx, p, func() ([]webtrigger.LeasedDelivery, error) { return p.Store.LeaseDeliveries(ctx, c) })
}

func (p *process) ClaimDelivery(ctx context.Context, l webtrigger.DeliveryLease) error {
	return attempt(ctx, p, func() error { return p.Store.ClaimDelivery(ctx, l) })
}

func (p *process) FinishDelivery(ctx context.Context, l webtrigger.DeliveryLease, o webtrigger.DeliveryOutcome) error {
	return attempt(ctx, p, func() error { return p.Store.FinishDelivery(ctx, l, o) })
}

// connect and post are the network under the process's callbacks. A slow
// connect outlives its lease.
func (p *process) connect() error {
	p.w.pause(time.Second)
	if p.w.fault(10) {
		time.Sleep(20 * time.Second)
	}
	if p.w.fault(10) {
		return errors.New("no route")
	}
	return nil
}

func (p *process) post(body []byte) (int, error) {
	var cb struct {
		RunKey string `json:"run_key"`
	}
	if err := json.Unmarshal(body, &cb); err != nil {
		return 0, err
	}
	p.w.mu.Lock()
	p.w.posts[cb.RunKey]++
	p.w.mu.Unlock()
	p.w.pause(time.Second)
	if p.w.fault(5) {
		return 0, errors.New("the connection broke")
	}
	if p.w.fault(4) {
		return http.StatusServiceUnavailable, nil
	}
	return http.StatusOK, nil
}
