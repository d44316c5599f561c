package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/egress"
	"github.com/webtrigger-go/webtrigger/internal/signature"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// A delivery is sent at most once. It is sent exactly once unless an error occurs in
// one short window; its state is then unknown.
//
//	lease the delivery ─► resolve, dial, TLS ─► claim (commit) ─► POST ─► record
//	                        │                      │               │
//	        failed, blocked ┘     crash here: the  │  crash here:  │
//	                              next one sends   │  "unknown"    │
//
// The connection is established before the claim is committed, so that the common
// failures occur before the claim. After the claim nothing is retried: the connection
// carries this one request, and net/http cannot resend it. If the host has enabled
// retries, a retry is another delivery; see RetryPolicy.

const (
	callbackTimeout  = 10 * time.Second // for the whole attempt, from the first DNS packet
	deliveryLease    = callbackTimeout + 5*time.Second
	maxResponseBytes = 4 << 10 // size of the receiver's response body in the delivery log
	userAgent        = "webtrigger/1 (+https://github.com/webtrigger-go/webtrigger)"
)

// Delivery is one POST of a run's callback to its callback_url, with its state and
// outcome. The end of a run creates the first delivery. A retry by
// [CallbackOptions.Retry] and a redelivery that an operator requests each create
// another one.
type Delivery struct {
	ID             int64
	RunID          int64
	RunKey         string
	ConversationID int64
	AssistantID    string
	URL            string
	Host           string // host:port of the URL, name in lower case; limits and pauses apply per host
	State          DeliveryState
	Retry          int // number of retries that led to this one; 0 for the first delivery or a redelivery
	CreatedAt      time.Time
	DueAt          time.Time     // not sent before this time; equal to CreatedAt unless it is a retry
	AttemptedAt    time.Time     // when the POST was claimed; zero if it was not
	CompletedAt    time.Time     // when the outcome was recorded; zero if there is none
	HTTPStatus     int           // 0 if there was no response
	Latency        time.Duration // duration of the exchange after the connection was established
	FailureClass   FailureClass  // "" if there was no failure
	Error          string        // a sentence; "" if there was no failure
	Response       string        // first 4 KiB of the response body, sanitized
}

// FailureClass identifies the kind of a failure. The values are stable.
type FailureClass string

// Classes of failures. If Delivery.AttemptedAt is zero, nothing was written.
// Otherwise the receiver may have received the POST.
const (
	FailureBlocked  FailureClass = egress.ClassBlocked  // the egress guard blocked the URL or an address
	FailureDNS      FailureClass = egress.ClassDNS      // the name does not exist, or no name server answered
	FailureConnect  FailureClass = egress.ClassConnect  // no address accepted the connection
	FailureTLS      FailureClass = egress.ClassTLS      // the handshake failed, or the certificate is not valid
	FailureTimeout  FailureClass = egress.ClassTimeout  // the 10 s were over, before or after the POST was written
	FailureBroken   FailureClass = egress.ClassBroken   // the connection ended before the head of a response
	FailureProtocol FailureClass = egress.ClassProtocol // the response is not HTTP/1.1, or its head exceeds 32 KiB
	FailureStatus   FailureClass = "status"             // the response status is not 2xx
	FailureInternal FailureClass = egress.ClassInternal // an error of this process
)

// CallbackOutcome is the outcome of the last delivery of a run that has an outcome.
type CallbackOutcome struct {
	DeliveryID   int64         // 0 if no delivery has an outcome
	State        DeliveryState // delivered, failed, blocked or unknown
	HTTPStatus   int           // 0 if there was no response
	FailureClass FailureClass  // "" if there was no failure
	At           time.Time     // when the outcome was recorded, or when the state became unknown
}

// DeliveryState is the state of a delivery. See [DeliveryStore] for the transitions.
type DeliveryState string

// States of a delivery.
const (
	DeliveryPending   DeliveryState = "pending"   // not sent yet
	DeliverySending   DeliveryState = "sending"   // the POST is claimed
	DeliveryDelivered DeliveryState = "delivered" // the response was 2xx
	DeliveryFailed    DeliveryState = "failed"    // the receiver was not reached, or the response was not 2xx
	DeliveryBlocked   DeliveryState = "blocked"   // blocked by the egress guard; nothing was sent
	DeliveryUnknown   DeliveryState = "unknown"   // claimed, but the outcome is not known
)

// connector opens the connection for one callback.
type connector interface {
	connect(ctx context.Context, url string) (callbackConn, error)
}

type callbackConn interface {
	Post(ctx context.Context, header http.Header, body []byte) (*egress.Response, error)
	Close() error
}

// guardedConnector connects through the egress guard.
type guardedConnector struct{ guard *egress.Guard }

func (g guardedConnector) connect(ctx context.Context, url string) (callbackConn, error) {
	target, err := g.guard.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return g.guard.Connect(ctx, target)
}

// callbackBody returns the body of a run's callback. It has the same bytes on every
// call.
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

// parcel contains the data that one attempt sends.
type parcel struct {
	url         string
	runKey      string
	secrets     []SigningSecret // if empty, the secrets of the service apply
	traceParent string
	body        []byte
}

// attempt is the result of one try to send a callback.
type attempt struct {
	outcome   DeliveryOutcome
	response  *egress.Response // nil if there was none
	at        time.Time        // of the POST; zero if nothing was written
	unclaimed error            // error of the claim: nothing was written, and there is no outcome
}

// attempt connects, claims and sends, within ctx and callbackTimeout. Callbacks are
// sent only through this method.
func (s *Service) attempt(ctx context.Context, p parcel, claim func(context.Context) error) attempt {
	ctx, cancel := context.WithTimeout(ctx, callbackTimeout)
	defer cancel()
	conn, err := s.connect.connect(ctx, p.url)
	if err != nil {
		return attempt{outcome: unsent(err)}
	}
	defer conn.Close()
	if err := claim(ctx); err != nil {
		return attempt{unclaimed: err}
	}
	at := time.Now()
	header := s.callbackHeader(p.secrets, p.runKey, at, p.body)
	if p.traceParent != "" {
		header.Set("traceparent", p.traceParent)
	}
	response, err := conn.Post(ctx, header, p.body)
	return attempt{outcome: sent(response, err, time.Since(at)), response: response, at: at}
}

// callbackHeader returns the header of one attempt. The given secrets of the
// assistant sign it, or else those of the service. Without secrets it is not signed.
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

// unsent returns the outcome of a delivery that ended before its claim.
func unsent(err error) DeliveryOutcome {
	o := DeliveryOutcome{State: DeliveryFailed, FailureClass: FailureClass(egress.Class(err)), Error: err.Error()}
	if o.FailureClass == FailureBlocked {
		o.State = DeliveryBlocked
	}
	return o
}

// sent returns the outcome of a POST.
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

// Delivery returns one delivery. It returns ErrNotFound if the delivery does not
// exist.
func (s *Service) Delivery(ctx context.Context, deliveryID int64) (Delivery, error) {
	return s.store.Delivery(ctx, deliveryID)
}

// Deliveries lists the deliveries of a run, oldest first. The list is empty if the
// run has no callback or does not exist.
func (s *Service) Deliveries(ctx context.Context, runID int64) ([]Delivery, error) {
	return s.store.Deliveries(ctx, runID)
}

// FindDeliveries lists the deliveries of all runs that match query, newest first. If
// query has an invalid assistant id, the list is empty.
func (s *Service) FindDeliveries(ctx context.Context, query DeliveryFilter) ([]Delivery, error) {
	if query.AssistantID != "" && !ValidAssistantID(query.AssistantID) {
		return nil, nil
	}
	query.Page = query.Page.withDefaults()
	return s.store.FindDeliveries(ctx, query)
}

// MaxCount is the maximum number of items that a count of a list goes through.
const MaxCount = 10_000

// CountDeliveries counts the newest deliveries that match query by host and state, at
// most MaxCount of them. If the counts add up to MaxCount, there may be more.
func (s *Service) CountDeliveries(ctx context.Context, query DeliveryFilter) ([]DeliveryCount, error) {
	if query.AssistantID != "" && !ValidAssistantID(query.AssistantID) {
		return nil, nil
	}
	return s.store.CountDeliveries(ctx, query, MaxCount)
}

// Redeliver creates another pending delivery of a run's callback to the URL of the
// given delivery and returns it. A process in which Work is active sends it. It
// returns ErrConflict if the run has another delivery that is pending or sending. A
// pending retry is not a conflict: it becomes the redelivery, unless a process has
// leased it.
//
// The receiver gets the same body again and can detect the redelivery by its run_key.
func (s *Service) Redeliver(ctx context.Context, deliveryID int64) (Delivery, error) {
	delivery, err := s.store.Redeliver(audited(ctx, "delivery.redeliver", objectOf("delivery", deliveryID), nil), deliveryID)
	if err != nil {
		return Delivery{}, fmt.Errorf("redeliver: %w", err)
	}
	s.log.InfoContext(ctx, "redelivery requested", "assistant_id", delivery.AssistantID,
		"run_id", delivery.RunID, "run_key", delivery.RunKey, "delivery_id", delivery.ID, "of_delivery_id", deliveryID)
	return delivery, nil
}

// SendTestCallback sends one callback to url immediately, for the setup of a
// receiver. It uses the same guard, transport, header and signature as the callbacks
// of the assistant's runs. Work and an enabled channel are not required. The callback
// is not retried, and nothing is stored.
//
// The body has the eight fields of a completed run that does not exist: a new
// run_key, conversation_id 0, and "Test callback" as result_text.
//
// SendTestCallback returns the outcome within 10 s as a [Delivery] that is delivered,
// failed or blocked and whose ids are 0. It returns a [RequestError] if the assistant
// id is invalid or the guard blocks the text of the URL. If ctx ends first, it
// returns the error of ctx, and the POST may have been sent.
func (s *Service) SendTestCallback(ctx context.Context, assistantID, url string) (Delivery, error) {
	var f faults
	if !ValidAssistantID(assistantID) {
		f.add("/assistant_id", assistantIDRule)
	}
	target, err := s.guard.ParseURL(url)
	if blocked := (*egress.Blocked)(nil); errors.As(err, &blocked) {
		f.add("/callback_url", blocked.Error())
	}
	if err := f.err(); err != nil {
		return Delivery{}, err
	}
	own, err := s.store.SigningSecrets(ctx, assistantID)
	if err != nil {
		return Delivery{}, fmt.Errorf("read signing secrets: %w", err)
	}
	created := time.Now()
	run := Run{Key: newRunKey(), Status: RunCompleted, Result: "Test callback", BaseURL: bases{s.opts.APIBase, s.opts.SessionBase}.stored(), CompletedAt: created}
	d := Delivery{
		RunKey: run.Key, AssistantID: assistantID, URL: url, Host: target.HostPort(), CreatedAt: created, DueAt: created,
	}
	body, err := callbackBody(&run)
	if err != nil {
		return Delivery{}, err
	}
	a := s.attempt(ctx, parcel{url: url, runKey: run.Key, secrets: own.Secrets, body: body}, func(context.Context) error { return nil })
	o := a.outcome
	if o.State != DeliveryDelivered && o.HTTPStatus == 0 && ctx.Err() != nil {
		return Delivery{}, ctx.Err()
	}
	d.State, d.AttemptedAt, d.CompletedAt = o.State, a.at, time.Now()
	d.HTTPStatus, d.Latency, d.Response = o.HTTPStatus, o.Latency, o.Response
	d.FailureClass, d.Error = o.FailureClass, o.Error
	s.log.InfoContext(ctx, "test callback", "assistant_id", assistantID, "run_key", run.Key,
		"state", d.State, "http_status", d.HTTPStatus, "latency", d.Latency, "error_class", d.FailureClass)
	return d, nil
}

// RetryPolicy configures retries of failed callbacks. A callback is retried until it
// is delivered or the pauses are used up. Receivers must then expect the same run_key
// more than once. Each attempt is a separate delivery in the log.
//
//   - Retried: no response (a DNS, connection or TLS error, a timeout, a broken or
//     invalid response), 408, 425, 429 and 5xx.
//   - Retried for 2 minutes after the end of the run: 404 and 409. The pauses are 5
//     s, 10 s, 20 s and then 30 s, regardless of Pauses. A workflow may begin to
//     wait for its callback later (n8n's Wait node).
//   - Not retried: 3xx, 410 and every other 4xx; a URL or an address that the guard
//     blocks; an unknown outcome.
//
// A pause is at least as long as the response's Retry-After (RFC 9110 §10.2.3). Of a
// longer Retry-After, 24 h apply. Each pause is extended by up to a fifth at random,
// so that deliveries that failed together are not retried together. If a host
// repeatedly does not respond at all, its retries pause. First attempts continue.
type RetryPolicy struct {
	// Pauses are the pauses before the first, the second, … retry. Their number is
	// the maximum number of retries: 1 to 50. Each pause must be 1 s to 7 days. If
	// nil, the pauses are 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 2 h, 4 h, 8 h and 8
	// h, about a day in total.
	Pauses []time.Duration
}

const (
	maxPauses     = 50
	maxPause      = 7 * 24 * time.Hour
	maxRetryAfter = 24 * time.Hour

	earlyWindow = 2 * time.Minute // a 404 or 409 is retried this long after the end of the run
	earlyPause  = 5 * time.Second // before the first retry after a 404 or 409
	earlyMost   = 30 * time.Second
)

func defaultPauses() []time.Duration {
	return []time.Duration{
		5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 8 * time.Hour,
	}
}

// complete checks p and returns a copy with defaults.
func (p RetryPolicy) complete() (*RetryPolicy, error) {
	if p.Pauses == nil {
		p.Pauses = defaultPauses()
	}
	if len(p.Pauses) == 0 || len(p.Pauses) > maxPauses {
		return nil, errors.New("number of Pauses must be 1 to 50: use nil for the default")
	}
	for _, pause := range p.Pauses {
		if pause < time.Second || pause > maxPause {
			return nil, errors.New("each of Pauses must be 1 s to 7 days")
		}
	}
	p.Pauses = slices.Clone(p.Pauses)
	return &p, nil
}

// retryIn returns the pause before the retry of a failure; 0 means no retry. retries
// is the number of earlier retries and age the time since the end of the run.
// response is nil if there was none.
func (p *RetryPolicy) retryIn(retries int, age time.Duration, o *DeliveryOutcome, response *egress.Response) time.Duration {
	var after time.Duration
	if response != nil {
		after = retryAfter(response.Header, time.Now())
	}
	switch {
	case o.HTTPStatus == http.StatusNotFound, o.HTTPStatus == http.StatusConflict:
		pause := jitter(max(after, min(earlyPause<<min(retries, 10), earlyMost)))
		if age+pause > earlyWindow {
			return 0
		}
		return pause
	case !retryable(o) || retries >= len(p.Pauses):
		return 0
	}
	return jitter(max(after, p.Pauses[retries]))
}

// retryable reports whether a retry of the failure may succeed.
func retryable(o *DeliveryOutcome) bool {
	switch o.FailureClass {
	case FailureStatus:
		switch o.HTTPStatus {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return true
		}
		return o.HTTPStatus >= 500
	case FailureDNS, FailureConnect, FailureTLS, FailureTimeout, FailureBroken, FailureProtocol:
		return true
	}
	return false // blocked, internal
}

// jitter extends a pause by up to a fifth.
func jitter(d time.Duration) time.Duration {
	return d + rand.N(d/5+1)
}

// retryAfter parses a Retry-After header, seconds or a date (RFC 9110 §10.2.3). It
// returns 0 for any other value. A date is compared with the response's own Date if
// there is one, because the receiver's clock may be wrong.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
