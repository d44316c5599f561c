package webtrigger

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/egress"
	"github.com/webtrigger-go/webtrigger/internal/hosthealth"

	"github.com/webtrigger-go/webtrigger/internal/hook"
)

// dispatcher sends owed callbacks with a bounded number of senders, no more than
// a share of them to one host. Which delivery is next is the store's to say: it
// is told how many are under way to each host, and gives to the host with the
// fewest first.
type dispatcher struct {
	s       *Service
	under   sync.WaitGroup
	circuit hosthealth.Circuit

	mu   sync.Mutex
	more bool           // as many were owed as there were idle senders
	idle int            // senders
	busy map[string]int // host → deliveries under way
}

func newDispatcher(s *Service) *dispatcher {
	return &dispatcher{s: s, idle: s.opts.Callback.Workers, busy: make(map[string]int)}
}

// run sends callbacks as they become owed, until ctx ends; it returns when those
// under way have ended. Retries become due without anybody's word: the poll finds
// them.
func (d *dispatcher) run(ctx context.Context) {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	defer d.under.Wait()
	for {
		d.sendOwed(ctx)
		select {
		case <-ctx.Done():
			return
		case <-d.s.owed:
			d.gather(ctx)
		case <-poll.C:
		}
	}
}

// gatherFor is how long an idle sender may wait for others.
const gatherFor = 10 * time.Millisecond

// gather waits while more is owed than there are senders, until a quarter of them
// is idle: one statement then leases for all of these, where each would ask for
// itself otherwise.
func (d *dispatcher) gather(ctx context.Context) {
	if !d.crowded() {
		return
	}
	timer := time.NewTimer(gatherFor)
	defer timer.Stop()
	for d.crowded() {
		select {
		case <-d.s.owed:
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
	return d.more && 4*d.idle < d.s.opts.Callback.Workers
}

// flush sends what is owed now, such as by runs that ended while Work drained.
// It begins nothing after callbackTimeout.
func (d *dispatcher) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), callbackTimeout)
	defer cancel()
	for d.sendOwed(ctx) > 0 {
		d.under.Wait()
	}
}

// sendOwed leases deliveries as long as there are some and senders are idle,
// sends them in the background and returns how many. A sender that gets idle
// signals that it is worth another look.
func (d *dispatcher) sendOwed(ctx context.Context) (sent int) {
	for ctx.Err() == nil {
		claim := d.claim()
		if claim.Limit == 0 {
			return sent
		}
		// A call that is cut short may have leased what nobody then sends.
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
		owed, err := d.s.store.LeaseDeliveries(call, claim)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				d.s.log.Warn("delivery lease failed", "error", err)
			}
			return sent
		}
		for _, delivery := range owed {
			if d.send(delivery) {
				sent++
			}
		}
		d.mu.Lock()
		d.more = len(owed) == claim.Limit
		d.mu.Unlock()
		if len(owed) < claim.Limit || d.crowded() {
			return sent
		}
	}
	return sent
}

// claim asks for as many deliveries as there are idle senders.
func (d *dispatcher) claim() DeliveryQuery {
	resting := d.circuit.Resting(time.Now())
	d.mu.Lock()
	defer d.mu.Unlock()
	return DeliveryQuery{
		Lease: deliveryLease, Limit: d.idle, PerHost: d.s.opts.Callback.PerHost, Busy: maps.Clone(d.busy), Resting: resting,
	}
}

// send makes a delivery in the background. It reports false for a retry that is
// to wait for another one's trial of its host: its lease runs out, and it comes
// again.
func (d *dispatcher) send(delivery LeasedDelivery) bool {
	host, retry := delivery.Delivery.Host, delivery.Delivery.Retry > 0
	if retry && !d.circuit.Admit(host, time.Now()) {
		return false
	}
	d.mu.Lock()
	d.idle--
	d.busy[host]++
	d.mu.Unlock()
	d.under.Go(func() {
		sign := d.s.deliver(delivery)
		d.circuit.Report(host, sign, retry, time.Now())
		d.mu.Lock()
		d.idle++
		if d.busy[host]--; d.busy[host] == 0 {
			delete(d.busy, host)
		}
		d.mu.Unlock()
		signal(d.s.owed)
	})
	return true
}

// deliver makes one delivery under its lease and says what it told of the host.
func (s *Service) deliver(d LeasedDelivery) hosthealth.Sign {
	leased := time.Now()
	ctx, ended := hook.Begin(context.Background(), s.opts.Hooks.Callback, CallbackInfo{Delivery: d.Delivery, Run: d.Run})
	var outcome DeliveryOutcome
	defer func() { ended(outcome) }()
	body, err := callbackBody(&d.Run)
	if err != nil {
		outcome = DeliveryOutcome{State: DeliveryFailed, FailureClass: FailureInternal, Error: err.Error()}
		s.recordDelivery(d, outcome)
		return hosthealth.Silent
	}
	a := s.attempt(ctx, parcel{
		url: d.Delivery.URL, runKey: d.Run.Key, secrets: d.Secrets, body: body,
		traceParent: s.opts.Hooks.traceParent(ctx, d.Run.TraceParent),
	}, func(ctx context.Context) error { return s.store.ClaimDelivery(ctx, d.Lease) })
	if a.unclaimed != nil {
		// Whether the claim was stored is not known: another lease is the only way
		// on for a delivery that is still pending.
		s.deliveryLog(d).Warn("callback claim failed", "error", a.unclaimed, "effect", "the callback is not sent under this lease")
		return hosthealth.Silent
	}
	outcome = a.outcome
	return s.conclude(d, outcome, a.response, leased)
}

// conclude records an outcome, and the retry that it may owe.
func (s *Service) conclude(d LeasedDelivery, o DeliveryOutcome, response *egress.Response, leased time.Time) hosthealth.Sign {
	if policy := s.opts.Callback.Retry; policy != nil && o.State == DeliveryFailed {
		age := d.LeasedAt.Sub(d.Run.CompletedAt) + time.Since(leased)
		o.RetryIn = policy.retryIn(d.Delivery.Retry, age, &o, response)
	}
	s.recordDelivery(d, o)
	return signOf(&o)
}

// signOf is what an outcome shows about the host.
func signOf(o *DeliveryOutcome) hosthealth.Sign {
	switch {
	case o.HTTPStatus != 0:
		return hosthealth.Answered
	case o.FailureClass == FailureBlocked || o.FailureClass == FailureInternal:
		return hosthealth.Silent
	}
	return hosthealth.Dead
}

// recordDelivery stores an outcome, trying again while the store is away: after
// a minute without one the delivery is shown as unknown.
func (s *Service) recordDelivery(d LeasedDelivery, o DeliveryOutcome) {
	log := s.deliveryLog(d).With("state", o.State, "http_status", o.HTTPStatus, "latency", o.Latency)
	if o.State == DeliveryDelivered {
		log.Info("callback delivered")
	} else {
		log.Warn("callback not delivered", "error_class", o.FailureClass, "reason", o.Error, "retry_in", o.RetryIn)
	}
	const tries = 10
	pause := 50 * time.Millisecond
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
		err := s.store.FinishDelivery(ctx, d.Lease, o)
		cancel()
		if err == nil {
			return
		}
		if errors.Is(err, ErrLeaseLost) || try == tries {
			log.Error("callback outcome not recorded", "error", err)
			return
		}
		time.Sleep(pause)
		pause = min(2*pause, time.Second)
	}
}

func (s *Service) deliveryLog(d LeasedDelivery) *slog.Logger {
	return s.log.With(d.Run.logFields()...).With("delivery_id", d.Delivery.ID, "retry", d.Delivery.Retry)
}
