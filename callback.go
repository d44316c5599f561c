package webtrigger

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/egress"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// A callback is sent at most once, and exactly once unless a fault hits one
// short window; then its delivery says "unknown".
//
//	lease the delivery ─► resolve, dial, TLS ─► claim (commit) ─► POST ─► record
//	                        │                      │               │
//	        failed, blocked ┘     crash here: the  │  crash here:  │
//	                              next one sends   │  "unknown"    │
//
// The connection stands before the claim is committed, so that what usually
// goes wrong goes wrong before it. After the claim nothing tries again: the
// connection carries this one request, and net/http is given no way to resend.

const (
	callbackTimeout = 10 * time.Second // for all of it, from the first DNS packet
	deliveryLease   = callbackTimeout + 5*time.Second
	maxResponseKept = 4 << 10 // bytes of the receiver's answer in the delivery log
	userAgent       = "webtrigger/1 (+https://github.com/webtrigger-go/webtrigger)"
)

// connector opens the connection for one callback.
type connector interface {
	connect(ctx context.Context, url string) (callbackConn, error)
}

type callbackConn interface {
	Post(ctx context.Context, header http.Header, body []byte) (*egress.Response, error)
	Close() error
}

// guardedConnector is the connector of production.
type guardedConnector struct{ guard *egress.Guard }

func (g guardedConnector) connect(ctx context.Context, url string) (callbackConn, error) {
	target, err := g.guard.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return g.guard.Connect(ctx, target)
}

// callbackBody is the body of a run's callback: the same bytes whenever it is
// made.
func callbackBody(run *Run) ([]byte, error) {
	var result *string
	if run.Status == RunCompleted {
		result = &run.Result
	}
	return wire.Marshal(struct {
		RunKey         string    `json:"run_key"`
		Status         RunStatus `json:"status"`
		StatusDetail   *string   `json:"status_detail"`
		ResultText     *string   `json:"result_text"`
		ErrorMessage   *string   `json:"error_message"`
		ConversationID int64     `json:"conversation_id"`
		EventsURL      string    `json:"events_url"`
		CompletedAt    string    `json:"completed_at"`
	}{
		run.Key, run.Status, wire.NullableString(run.StatusDetail), result, wire.NullableString(run.ErrorMessage),
		run.ConversationID, run.EventsURL(), wire.FormatTime(run.CompletedAt),
	})
}

// dispatcher sends owed callbacks with a bounded number of senders.
type dispatcher struct {
	s     *Service
	free  chan struct{} // a token per idle sender
	under sync.WaitGroup
}

func newDispatcher(s *Service) *dispatcher {
	d := &dispatcher{s: s, free: make(chan struct{}, s.opts.Callback.Workers)}
	for range cap(d.free) {
		d.free <- struct{}{}
	}
	return d
}

// run sends callbacks as they become owed, until ctx ends; it returns when those
// under way have ended.
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
		case <-poll.C:
		}
	}
}

// flush sends what is owed now, such as by runs that ended while Work drained.
// It begins nothing after callbackTimeout.
func (d *dispatcher) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), callbackTimeout)
	defer cancel()
	for d.sendOwed(ctx) {
		d.under.Wait()
	}
	d.under.Wait()
}

// sendOwed leases deliveries as long as there are some and senders are idle, and
// sends them in the background. It reports whether more may be owed.
func (d *dispatcher) sendOwed(ctx context.Context) (more bool) {
	for ctx.Err() == nil {
		idle := len(d.free)
		if idle == 0 {
			return true // a sender that gets idle signals
		}
		call, cancel := context.WithTimeout(ctx, statementTimeout)
		owed, err := d.s.store.LeaseDeliveries(call, DeliveryClaim{Lease: deliveryLease, Limit: idle})
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				d.s.log.Warn("lease deliveries", "error", err)
			}
			return false
		}
		for _, delivery := range owed {
			<-d.free
			d.under.Go(func() {
				d.s.deliver(delivery)
				d.free <- struct{}{}
				signal(d.s.owed)
			})
		}
		if len(owed) < idle {
			return false
		}
	}
	return false
}

// deliver makes one delivery under its lease.
func (s *Service) deliver(d OwedDelivery) {
	ctx, cancel := context.WithTimeout(context.Background(), callbackTimeout)
	defer cancel()
	body, err := callbackBody(&d.Run)
	if err != nil {
		s.recordDelivery(d, DeliveryOutcome{State: DeliveryFailed, ErrorClass: ErrorInternal, Error: err.Error()})
		return
	}
	conn, err := s.connect.connect(ctx, d.Delivery.URL)
	if err != nil {
		s.recordDelivery(d, unsent(err))
		return
	}
	defer conn.Close()
	if err := s.store.BeginDelivery(ctx, d.Lease); err != nil {
		// Whether the claim was stored is not known: another lease is the only way
		// on for a delivery that is still pending.
		s.deliveryLog(d).Warn("callback not sent: it could not be claimed", "error", err)
		return
	}
	began := time.Now()
	response, err := conn.Post(ctx, http.Header{"Content-Type": {"application/json"}, "User-Agent": {userAgent}}, body)
	s.recordDelivery(d, sent(response, err, time.Since(began)))
}

// unsent is the outcome of a delivery that ended before its claim.
func unsent(err error) DeliveryOutcome {
	o := DeliveryOutcome{State: DeliveryFailed, ErrorClass: egress.Class(err), Error: err.Error()}
	if o.ErrorClass == ErrorBlocked {
		o.State = DeliveryBlocked
	}
	return o
}

// sent is the outcome of a POST.
func sent(response *egress.Response, err error, took time.Duration) DeliveryOutcome {
	if err != nil {
		return DeliveryOutcome{State: DeliveryFailed, Latency: took, ErrorClass: egress.Class(err), Error: err.Error()}
	}
	o := DeliveryOutcome{
		State: DeliveryDelivered, HTTPStatus: response.Status, Latency: took,
		Response: wire.Truncate(wire.ValidText(string(response.Body)), maxResponseKept),
	}
	if response.Status < 200 || response.Status > 299 {
		o.State, o.ErrorClass, o.Error = DeliveryFailed, ErrorStatus, "the receiver did not answer with 2xx"
	}
	return o
}

// recordDelivery stores an outcome, trying again while the store is away: after
// a minute without one the delivery is shown as unknown.
func (s *Service) recordDelivery(d OwedDelivery, o DeliveryOutcome) {
	log := s.deliveryLog(d).With("state", o.State, "http_status", o.HTTPStatus, "latency", o.Latency)
	if o.State == DeliveryDelivered {
		log.Info("callback delivered")
	} else {
		log.Warn("callback not delivered", "error_class", o.ErrorClass, "reason", o.Error)
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
			log.Error("record callback outcome", "error", err)
			return
		}
		time.Sleep(pause)
		pause = min(2*pause, time.Second)
	}
}

func (s *Service) deliveryLog(d OwedDelivery) *slog.Logger {
	return s.log.With("delivery_id", d.Delivery.ID, "run_id", d.Run.ID, "run_key", d.Run.Key)
}
