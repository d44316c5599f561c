package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/hook"
	"github.com/webtrigger-go/webtrigger/internal/hosthealth"
)

// dispatcher sends pending callbacks with a limited number of senders, and a limited
// share of them per assistant and per host. The store selects the next delivery: the
// dispatcher reports the numbers in progress, and the store prefers the assistant with
// the fewest, and within it the host with the fewest.
type dispatcher struct {
	s       *Service
	under   sync.WaitGroup
	circuit hosthealth.Circuit
	writes  deliveryWrites

	mu         sync.Mutex
	more       bool           // the last lease filled all idle senders, or an assistant has its share
	filled     int            // senders in use after the last lease
	idle       int            // senders
	busy       map[string]int // deliveries in progress, by host
	assistants map[string]int // deliveries in progress, by assistant
}

func newDispatcher(s *Service) *dispatcher {
	return &dispatcher{s: s, idle: s.opts.Callback.Workers, busy: make(map[string]int), assistants: make(map[string]int)}
}

// share is how many senders an assistant has at most while another one waits.
func (o *CallbackOptions) share() int { return max(o.Workers/4, 1) }

// reserved is how many senders are kept for assistants that have none, so that such an
// assistant does not wait for the end of another's slow delivery.
func (o *CallbackOptions) reserved() int { return min(max(o.Workers/8, 1), o.Workers-1) }

// run sends callbacks when they become due, until ctx ends. It returns when the
// deliveries in progress have ended. There is no signal for a retry that becomes due;
// the poll finds it.
func (d *dispatcher) run(ctx context.Context) {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	defer d.under.Wait()
	for {
		d.sendPending(ctx)
		select {
		case <-ctx.Done():
			return
		case <-d.s.pending:
			d.gather(ctx)
		case <-poll.C:
		}
	}
}

// gatherFor is how long an idle sender may wait for others.
const gatherFor = 10 * time.Millisecond

// gather waits while more deliveries are pending than may be sent, until a quarter of
// the senders that were in use is idle. One statement then leases deliveries for all
// of them, instead of one statement each.
func (d *dispatcher) gather(ctx context.Context) {
	if !d.crowded() {
		return
	}
	timer := time.NewTimer(gatherFor)
	defer timer.Stop()
	for d.crowded() {
		select {
		case <-d.s.pending:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (d *dispatcher) crowded() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.more && 4*(d.filled-d.inUse()) < d.filled
}

// inUse is how many senders are not idle. The caller holds mu.
func (d *dispatcher) inUse() int { return d.s.opts.Callback.Workers - d.idle }

// flush sends the callbacks that are pending now, such as those of runs that ended
// while Work drained. After callbackTimeout it starts no delivery and repeats no write.
func (d *dispatcher) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), callbackTimeout)
	defer cancel()
	for {
		for d.sendPending(ctx) > 0 {
			d.under.Wait()
		}
		if !d.writes.finish(ctx) {
			return
		}
	}
}

// sendPending leases deliveries while deliveries are pending and senders are idle. It
// sends them in the background and returns their number. A sender that becomes idle
// signals the dispatcher.
func (d *dispatcher) sendPending(ctx context.Context) (sent int) {
	for ctx.Err() == nil {
		claim := d.claim()
		if claim.Limit == 0 {
			return sent
		}
		// An interrupted call may lease deliveries that no process then sends.
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
		leased, err := d.s.store.LeaseDeliveries(call, claim)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				d.s.log.Warn("delivery lease failed", "error", err)
			}
			return sent
		}
		for _, delivery := range leased {
			if d.send(delivery) {
				sent++
			}
		}
		d.mu.Lock()
		d.more = len(leased) == claim.Limit
		for _, n := range d.assistants {
			d.more = d.more || n >= claim.PerAssistant
		}
		d.filled = d.inUse()
		d.mu.Unlock()
		if len(leased) < claim.Limit || d.crowded() {
			return sent
		}
	}
	return sent
}

// claim returns a query for as many deliveries as there are idle senders.
func (d *dispatcher) claim() DeliveryQuery {
	resting, o := d.circuit.Resting(time.Now()), &d.s.opts.Callback
	d.mu.Lock()
	defer d.mu.Unlock()
	return DeliveryQuery{
		Token: NewToken(), Lease: deliveryLease, Limit: d.idle, Reserved: o.reserved(),
		PerHost: o.PerHost, Busy: maps.Clone(d.busy), Resting: resting,
		PerAssistant: o.share(), Alone: o.Workers, BusyAssistants: maps.Clone(d.assistants),
	}
}

// send sends a delivery in the background. It returns false for a retry that must
// wait while another retry tests its host. The lease of that retry expires, and a
// later query returns it again.
func (d *dispatcher) send(delivery LeasedDelivery) bool {
	host, assistant, retry := delivery.Delivery.Host, delivery.Delivery.AssistantID, delivery.Delivery.Retry > 0
	if retry && !d.circuit.Admit(host, time.Now()) {
		return false
	}
	d.mu.Lock()
	d.idle--
	d.busy[host]++
	d.assistants[assistant]++
	d.mu.Unlock()
	d.under.Go(func() {
		sign := d.deliver(delivery)
		d.circuit.Report(host, sign, retry, time.Now())
		d.mu.Lock()
		d.idle++
		ended(d.busy, host)
		ended(d.assistants, assistant)
		d.mu.Unlock()
		signal(d.s.pending)
	})
	return true
}

// ended counts down.
func ended(busy map[string]int, name string) {
	if busy[name]--; busy[name] == 0 {
		delete(busy, name)
	}
}

// deliver sends one delivery under its lease and returns what its outcome shows about
// the host.
func (d *dispatcher) deliver(l LeasedDelivery) hosthealth.Sign {
	s, leased := d.s, time.Now()
	log := s.log.With(l.Run.logFields()...).With("delivery_id", l.Delivery.ID, "retry", l.Delivery.Retry)
	ctx, ended := hook.Begin(context.Background(), s.opts.Hooks.Callback, CallbackInfo{Delivery: l.Delivery, Run: l.Run})
	var outcome DeliveryOutcome
	defer func() { ended(outcome) }()
	body, err := callbackBody(&l.Run)
	if err != nil {
		outcome = DeliveryOutcome{State: DeliveryFailed, FailureClass: FailureInternal, Error: err.Error()}
		d.record(log, l.Lease, outcome)
		return hosthealth.Silent
	}
	a := s.attempt(ctx, parcel{
		url: l.Delivery.URL, runKey: l.Run.Key, secrets: l.Secrets, body: body,
		traceParent: s.opts.Hooks.traceParent(ctx, l.Run.TraceParent),
	}, func(ctx context.Context) error { return s.claimDelivery(ctx, l.Lease) })
	if a.unclaimed != nil {
		log.Warn("callback claim failed", "error", a.unclaimed, "effect", "the callback is not sent under this lease")
		if errors.Is(a.unclaimed, errClaimUnknown) {
			d.returnDelivery(log, l.Lease)
		}
		return hosthealth.Silent
	}
	outcome = a.outcome
	if policy := s.opts.Callback.Retry; policy != nil && outcome.State == DeliveryFailed {
		age := l.LeasedAt.Sub(l.Run.CompletedAt) + time.Since(leased)
		outcome.RetryIn = policy.retryIn(l.Delivery.Retry, age, &outcome, a.response)
	}
	d.record(log, l.Lease, outcome)
	return signOf(&outcome)
}

// signOf returns what an outcome shows about the host.
func signOf(o *DeliveryOutcome) hosthealth.Sign {
	switch {
	case o.HTTPStatus != 0:
		return hosthealth.Answered
	case o.FailureClass == FailureBlocked || o.FailureClass == FailureInternal:
		return hosthealth.Silent
	}
	return hosthealth.Dead
}

// claimPatience is how long one call of ClaimDelivery may take. A repeated call may
// get the answer that the first one did not.
const claimPatience = 2 * time.Second

// errClaimUnknown reports that the claim of a delivery may have been stored, so the
// delivery must be returned.
var errClaimUnknown = errors.New("outcome of the claim is unknown")

// claimDelivery claims a delivery for its POST. While ctx lasts, it repeats a call whose
// outcome is not known. The caller may send only if it returns nil. ErrLeaseLost means
// that nothing is claimed, unless the error also wraps errClaimUnknown.
func (s *Service) claimDelivery(ctx context.Context, lease DeliveryLease) error {
	unknown := false
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		call, cancel := context.WithTimeout(ctx, claimPatience)
		err := s.store.ClaimDelivery(call, lease)
		cancel()
		over := ctx.Err()
		switch {
		case err == nil && over == nil:
			return nil
		case errors.Is(err, ErrLeaseLost) && !unknown:
			return err
		case errors.Is(err, ErrLeaseLost), over != nil:
			return fmt.Errorf("%w: %w", errClaimUnknown, errors.Join(err, over))
		}
		unknown = true
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// deliveryWrite is a write about a delivery that is repeated until its outcome is known.
type deliveryWrite struct {
	write   func(context.Context) error
	done    func()      // called when it is stored by a call that has returned nil
	failed  func(error) // called when it is not stored
	unknown bool        // an earlier call may have stored it
	errors  int         // that are not the store's unavailability
}

// try makes one call. It reports whether the outcome is known or the write is given up.
func (w *deliveryWrite) try(ctx context.Context, patience time.Duration) (over bool, err error) {
	const tries = 10
	call, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = w.write(call)
	switch {
	case err == nil:
		w.done()
		return true, nil
	case errors.Is(err, ErrLeaseLost), errors.Is(err, ErrConflict):
		if !w.unknown {
			w.failed(err)
		}
		return true, err
	case !storeAway(err):
		w.errors++
	}
	w.unknown = true
	if w.errors == tries {
		w.failed(err)
		return true, err
	}
	return false, err
}

// deliveryWrites makes the writes about deliveries. A write that does not succeed soon
// must not occupy a sender: it goes to a list that one goroutine repeats. The zero value
// is ready for use.
type deliveryWrites struct {
	mu      sync.Mutex // guards the following fields
	list    []*deliveryWrite
	running chan struct{} // closed when the goroutine has ended; nil: none
	closed  context.CancelFunc
}

// write makes a write. It returns soon, possibly before the write is stored.
func (d *deliveryWrites) write(w *deliveryWrite) {
	pause := 50 * time.Millisecond
	for range 3 {
		over, err := w.try(context.Background(), statementTimeout)
		if over {
			return
		}
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		time.Sleep(pause)
		pause *= 2
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, w)
	if d.running == nil {
		d.running = make(chan struct{})
		var life context.Context
		life, d.closed = context.WithCancel(context.Background())
		go d.repeat(life, d.running)
	}
}

// repeat makes the writes of the list until it is empty or life ends.
func (d *deliveryWrites) repeat(life context.Context, ended chan<- struct{}) {
	defer close(ended)
	for {
		d.mu.Lock()
		list := slices.Clone(d.list)
		if len(list) == 0 || life.Err() != nil {
			d.list, d.running = nil, nil
			d.closed()
			d.mu.Unlock()
			for _, w := range list {
				w.failed(errPostponed)
			}
			return
		}
		d.mu.Unlock()
		over := make(map[*deliveryWrite]bool)
		for _, w := range list {
			if life.Err() == nil {
				over[w], _ = w.try(life, claimPatience)
			}
		}
		d.mu.Lock()
		d.list = slices.DeleteFunc(d.list, func(w *deliveryWrite) bool { return over[w] })
		left := len(d.list)
		d.mu.Unlock()
		if left > 0 {
			select {
			case <-life.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

// finish waits until the list is empty, or until ctx ends and the rest is given up. It
// reports whether there was anything to wait for.
func (d *deliveryWrites) finish(ctx context.Context) bool {
	d.mu.Lock()
	running, stop := d.running, d.closed
	d.mu.Unlock()
	if running == nil {
		return false
	}
	select {
	case <-running:
	case <-ctx.Done():
		stop()
		<-running
	}
	return true
}

// returnDelivery puts a delivery that was not sent back to pending.
func (d *dispatcher) returnDelivery(log *slog.Logger, lease DeliveryLease) {
	d.writes.write(&deliveryWrite{
		write: func(ctx context.Context) error { return d.s.store.ReturnDelivery(ctx, lease) },
		done: func() {
			log.Info("callback returned", "effect", "it is sent under another lease")
			signal(d.s.pending)
		},
		failed: func(err error) { log.Error("callback return failed", "error", err) },
	})
}

// record stores the outcome of a delivery. A delivery without a recorded outcome is
// marked unknown one minute after its claim. A later record replaces that.
func (d *dispatcher) record(log *slog.Logger, lease DeliveryLease, o DeliveryOutcome) {
	log = log.With("state", o.State, "http_status", o.HTTPStatus, "latency", o.Latency)
	if o.State == DeliveryDelivered {
		log.Info("callback delivered")
	} else {
		log.Warn("callback not delivered", "error_class", o.FailureClass, "reason", o.Error, "retry_in", o.RetryIn)
	}
	d.writes.write(&deliveryWrite{
		write:  func(ctx context.Context) error { return d.s.store.FinishDelivery(ctx, lease, o) },
		done:   func() {},
		failed: func(err error) { log.Error("callback outcome not recorded", "error", err) },
	})
}
