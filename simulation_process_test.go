package webtrigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

	weather weather // on its way to the store
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

var errLost = fmt.Errorf("the answer is lost: %w", webtrigger.ErrUnavailable)

// kind is what a call of the store does.
type kind int

const (
	reads  kind = iota
	writes      // a write whose outcome matters to its caller
	beats       // a heartbeat
)

// call makes one call of the store. It takes its time, and the request or, worse, the
// answer may be lost. While the way to the store is held, the call waits. If its caller
// gives up, a write is made later all the same.
func call[T any](ctx context.Context, p *process, k kind, do func(context.Context) (T, error)) (T, error) {
	var none T
	for _, w := range []*weather{&p.weather, &p.w.weather} {
		held, commits := w.held(k)
		if held == nil {
			continue
		}
		select {
		case <-held:
		case <-ctx.Done():
			if commits {
				p.w.late.Go(func() {
					<-held
					_, _ = do(context.WithoutCancel(ctx))
				})
			}
			return none, fmt.Errorf("cut off: %w", errors.Join(webtrigger.ErrUnavailable, ctx.Err()))
		}
	}
	p.w.pause(5 * time.Millisecond)
	if k == beats && p.w.steady {
		return do(ctx)
	}
	if p.w.fault(40) {
		return none, errLost
	}
	v, err := do(ctx)
	if p.w.fault(20) {
		p.w.pause(3 * time.Second) // the answer is slow
	}
	if ctx.Err() != nil {
		return none, fmt.Errorf("no answer in time: %w", errors.Join(errLost, ctx.Err()))
	}
	if p.w.fault(40) {
		return none, errLost
	}
	return v, err
}

// attempt is call for methods that return an error only.
func attempt(ctx context.Context, p *process, do func(context.Context) error) error {
	_, err := call(ctx, p, writes, func(ctx context.Context) (struct{}, error) { return struct{}{}, do(ctx) })
	return err
}

func (p *process) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	return call(ctx, p, writes, func(ctx context.Context) (webtrigger.CreatedTrigger, error) {
		created, err := p.Store.CreateTrigger(ctx, t)
		if created.Lease != nil {
			p.w.claimed(*created.Lease)
		}
		return created, err
	})
}

func (p *process) ClaimRuns(ctx context.Context, c webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	return call(ctx, p, writes, func(ctx context.Context) ([]webtrigger.ClaimedRun, error) {
		claimed, err := p.Store.ClaimRuns(ctx, c)
		for _, run := range claimed {
			p.w.claimed(run.Lease)
		}
		return claimed, err
	})
}

func (p *process) RegisterProcess(ctx context.Context, r webtrigger.Process) error {
	return attempt(ctx, p, func(ctx context.Context) error { return p.Store.RegisterProcess(ctx, r) })
}

func (p *process) RenewProcess(ctx context.Context, r webtrigger.Process) (webtrigger.Renewed, error) {
	renewed, err := webtrigger.Renewed{}, errLost
	if p.w.steady || !p.w.fault(10) {
		renewed, err = call(ctx, p, beats, func(ctx context.Context) (webtrigger.Renewed, error) { return p.Store.RenewProcess(ctx, r) })
	}
	if errors.Is(err, errLost) {
		p.w.part()
	}
	return renewed, err
}

func (p *process) RemoveProcess(ctx context.Context, id string) error {
	return attempt(ctx, p, func(ctx context.Context) error { return p.Store.RemoveProcess(ctx, id) })
}

func (p *process) AppendEvents(ctx context.Context, l webtrigger.Lease, b webtrigger.EventBatch) error {
	return attempt(ctx, p, func(ctx context.Context) error { return p.Store.AppendEvents(ctx, l, b) })
}

func (p *process) FinishRun(ctx context.Context, l webtrigger.Lease, f webtrigger.Finish) (webtrigger.Run, error) {
	return call(ctx, p, writes, func(ctx context.Context) (webtrigger.Run, error) { return p.Store.FinishRun(ctx, l, f) })
}

func (p *process) RequeueRun(ctx context.Context, l webtrigger.Lease, r webtrigger.Requeue) (webtrigger.Run, error) {
	return call(ctx, p, writes, func(ctx context.Context) (webtrigger.Run, error) { return p.Store.RequeueRun(ctx, l, r) })
}

func (p *process) SweepRuns(ctx context.Context, s webtrigger.Sweep) ([]webtrigger.Run, error) {
	return call(ctx, p, writes, func(ctx context.Context) ([]webtrigger.Run, error) { return p.Store.SweepRuns(ctx, s) })
}

func (p *process) RequestStop(ctx context.Context, id int64, s webtrigger.Stop, l *webtrigger.Lease) (webtrigger.Run, error) {
	return call(ctx, p, writes, func(ctx context.Context) (webtrigger.Run, error) { return p.Store.RequestStop(ctx, id, s, l) })
}

func (p *process) Events(ctx context.Context, q webtrigger.EventQuery) (webtrigger.EventPage, error) {
	q.Limit = min(q.Limit, 3) // many pages
	return call(ctx, p, reads, func(ctx context.Context) (webtrigger.EventPage, error) { return p.Store.Events(ctx, q) })
}

func (p *process) LastEventIDs(ctx context.Context, ids []int64) (map[int64]int64, error) {
	return call(ctx, p, reads, func(ctx context.Context) (map[int64]int64, error) { return p.Store.LastEventIDs(ctx, ids) })
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
	return call(ctx, p, writes, func(ctx context.Context) ([]webtrigger.LeasedDelivery, error) { return p.Store.LeaseDeliveries(ctx, c) })
}

func (p *process) ClaimDelivery(ctx context.Context, l webtrigger.DeliveryLease) error {
	return attempt(ctx, p, func(ctx context.Context) error { return p.Store.ClaimDelivery(ctx, l) })
}

func (p *process) ReturnDelivery(ctx context.Context, l webtrigger.DeliveryLease) error {
	return attempt(ctx, p, func(ctx context.Context) error { return p.Store.ReturnDelivery(ctx, l) })
}

func (p *process) FinishDelivery(ctx context.Context, l webtrigger.DeliveryLease, o webtrigger.DeliveryOutcome) error {
	return attempt(ctx, p, func(ctx context.Context) error { return p.Store.FinishDelivery(ctx, l, o) })
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
