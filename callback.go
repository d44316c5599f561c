package webtrigger

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/egress"
	"github.com/webtrigger-go/webtrigger/internal/hosthealth"
	"github.com/webtrigger-go/webtrigger/internal/signature"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// A delivery is sent at most once, and exactly once unless a fault hits one
// short window; then it says "unknown".
//
//	lease the delivery ─► resolve, dial, TLS ─► claim (commit) ─► POST ─► record
//	                        │                      │               │
//	        failed, blocked ┘     crash here: the  │  crash here:  │
//	                              next one sends   │  "unknown"    │
//
// The connection stands before the claim is committed, so that what usually
// goes wrong goes wrong before it. After the claim nothing tries again: the
// connection carries this one request, and net/http is given no way to resend. A
// retry, where the host has opted in, is another delivery: see RetryPolicy.

const (
	callbackTimeout  = 10 * time.Second // for all of it, from the first DNS packet
	deliveryLease    = callbackTimeout + 5*time.Second
	maxResponseBytes = 4 << 10 // bytes of the receiver's answer in the delivery log
	userAgent        = "webtrigger/1 (+https://github.com/webtrigger-go/webtrigger)"
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

// deliver makes one delivery under its lease and says what it told of the host.
func (s *Service) deliver(d LeasedDelivery) hosthealth.Sign {
	leased := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), callbackTimeout)
	defer cancel()
	ctx, ended := s.opts.Hooks.callback(ctx, d)
	var outcome DeliveryOutcome
	defer func() { ended(outcome) }()
	body, err := callbackBody(&d.Run)
	if err != nil {
		outcome = DeliveryOutcome{State: DeliveryFailed, FailureClass: FailureInternal, Error: err.Error()}
		s.recordDelivery(d, outcome)
		return hosthealth.Silent
	}
	conn, err := s.connect.connect(ctx, d.Delivery.URL)
	if err != nil {
		outcome = unsent(err)
		return s.conclude(d, outcome, nil, leased)
	}
	defer conn.Close()
	if err := s.store.ClaimDelivery(ctx, d.Lease); err != nil {
		// Whether the claim was stored is not known: another lease is the only way
		// on for a delivery that is still pending.
		s.deliveryLog(d).Warn("callback not sent: it could not be claimed", "error", err)
		return hosthealth.Silent
	}
	began := time.Now()
	header := s.callbackHeader(d.Secrets, d.Run.Key, began, body)
	if parent := s.opts.Hooks.traceParent(ctx, d.Run.TraceParent); parent != "" {
		header.Set("traceparent", parent)
	}
	response, err := conn.Post(ctx, header, body)
	outcome = sent(response, err, time.Since(began))
	return s.conclude(d, outcome, response, leased)
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

// callbackHeader is the header of one attempt. It is signed by secrets, which
// are the assistant's own, else by the service's, else not at all.
func (s *Service) callbackHeader(secrets []SigningSecret, runKey string, at time.Time, body []byte) http.Header {
	h := http.Header{"Content-Type": {"application/json"}, "User-Agent": {userAgent}}
	if len(secrets) == 0 {
		secrets = s.opts.Callback.Secrets
	}
	if len(secrets) == 0 {
		return h
	}
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		signatures[i] = secret.sign(runKey, at.Unix(), body)
	}
	h.Set(signature.HeaderID, runKey)
	h.Set(signature.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(signature.HeaderSignature, strings.Join(signatures, " "))
	return h
}

// unsent is the outcome of a delivery that ended before its claim.
func unsent(err error) DeliveryOutcome {
	o := DeliveryOutcome{State: DeliveryFailed, FailureClass: FailureClass(egress.Class(err)), Error: err.Error()}
	if o.FailureClass == FailureBlocked {
		o.State = DeliveryBlocked
	}
	return o
}

// sent is the outcome of a POST.
func sent(response *egress.Response, err error, took time.Duration) DeliveryOutcome {
	if err != nil {
		return DeliveryOutcome{State: DeliveryFailed, Latency: took, FailureClass: FailureClass(egress.Class(err)), Error: err.Error()}
	}
	o := DeliveryOutcome{
		State: DeliveryDelivered, HTTPStatus: response.Status, Latency: took,
		Response: wire.Truncate(wire.ValidText(string(response.Body)), maxResponseBytes),
	}
	if response.Status < 200 || response.Status > 299 {
		o.State, o.FailureClass, o.Error = DeliveryFailed, FailureStatus, "the receiver did not answer with 2xx"
	}
	return o
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
			log.Error("record callback outcome", "error", err)
			return
		}
		time.Sleep(pause)
		pause = min(2*pause, time.Second)
	}
}

func (s *Service) deliveryLog(d LeasedDelivery) *slog.Logger {
	return s.log.With(d.Run.logFields()...).With("delivery_id", d.Delivery.ID, "retry", d.Delivery.Retry)
}
