package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/egress"
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

// Delivery is the one POST that a run's end owes to its callback_url, or one
// more of them: a retry by [CallbackOptions.Retry], or a redelivery that an
// operator asked for. Each is an attempt of its own and leaves a record of its
// own.
type Delivery struct {
	ID             int64
	RunID          int64
	RunKey         string
	ConversationID int64
	AssistantID    string
	URL            string
	Host           string // host:port of the URL, the name in lower case; what caps and rests go by
	State          DeliveryState
	Retry          int // how many retries led to it; 0: owed by the run's end or by an operator
	CreatedAt      time.Time
	DueAt          time.Time     // not attempted before; CreatedAt unless it is a retry
	AttemptedAt    time.Time     // when the POST was claimed; zero: it was not
	CompletedAt    time.Time     // when the outcome was recorded; zero: none
	HTTPStatus     int           // 0: no answer
	Latency        time.Duration // of the exchange after the connection stood
	FailureClass   FailureClass  // "": none
	Error          string        // a sentence; "": none
	Response       string        // the first 4 KiB of the answer's body, made valid UTF-8 without NUL
}

// FailureClass names the kind of a failure, with a word that does not change.
type FailureClass string

// The classes of failures. Delivery.AttemptedAt says whether the receiver may
// have seen the POST: if it is zero, nothing was written.
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

// CallbackOutcome is how the last delivery of a run that has an outcome ended.
type CallbackOutcome struct {
	DeliveryID   int64         // 0: none has an outcome yet
	State        DeliveryState // delivered, failed, blocked or unknown
	HTTPStatus   int           // 0: no answer
	FailureClass FailureClass  // "": none
	At           time.Time     // when it was recorded, or when it was found unknown
}

// DeliveryState is where a delivery stands; see [DeliveryStore] for the moves.
type DeliveryState string

// The states of a delivery.
const (
	DeliveryPending   DeliveryState = "pending"   // owed
	DeliverySending   DeliveryState = "sending"   // the POST is claimed
	DeliveryDelivered DeliveryState = "delivered" // answered 2xx
	DeliveryFailed    DeliveryState = "failed"    // not reached, or answered otherwise
	DeliveryBlocked   DeliveryState = "blocked"   // refused by the guard, nothing was sent
	DeliveryUnknown   DeliveryState = "unknown"   // claimed, and no outcome came back
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

// parcel is what one attempt sends.
type parcel struct {
	url         string
	runKey      string
	secrets     []SigningSecret // none: the service's
	traceParent string
	body        []byte
}

// attempt is one try to send a callback.
type attempt struct {
	outcome   DeliveryOutcome
	response  *egress.Response // nil: none
	at        time.Time        // of the POST; zero: nothing was written
	unclaimed error            // claim's error: nothing was written, and there is no outcome
}

// attempt connects, claims and sends, within ctx and callbackTimeout. It is the only
// way by which a callback leaves.
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

// Delivery returns one delivery.
func (s *Service) Delivery(ctx context.Context, deliveryID int64) (Delivery, error) {
	return s.store.Delivery(ctx, deliveryID)
}

// Deliveries lists the deliveries of a run, oldest first. A run that owes none,
// and an absent run, has none.
func (s *Service) Deliveries(ctx context.Context, runID int64) ([]Delivery, error) {
	return s.store.Deliveries(ctx, runID)
}

// Redeliver owes a run's callback once more, on an operator's word: it returns
// a new pending delivery to the URL of the given one, which Work sends in some
// process. ErrConflict says that the run has a delivery pending or under way.
//
// The receiver sees the same body again; the run_key in it tells it that it is a
// repetition.
func (s *Service) Redeliver(ctx context.Context, deliveryID int64) (Delivery, error) {
	delivery, err := s.store.Redeliver(ctx, deliveryID)
	if err != nil {
		return Delivery{}, fmt.Errorf("redeliver: %w", err)
	}
	s.log.InfoContext(ctx, "redelivery requested", "assistant_id", delivery.AssistantID,
		"run_id", delivery.RunID, "run_key", delivery.RunKey, "delivery_id", delivery.ID, "of_delivery_id", deliveryID)
	return delivery, nil
}

// SendTestCallback sends one callback to url, now and by this process, for whoever
// sets up a receiver: through the same guard and transport, with the same header
// and signature as the callbacks of the assistant's runs. It needs neither Work
// nor an enabled channel, is not retried, and nothing is stored.
//
// The body has the eight fields of a completed run that does not exist: a
// run_key of its own, conversation_id 0, and "Test callback" as result_text.
//
// It returns what became of the POST as a [Delivery] that is delivered, failed or
// blocked and whose ids are 0, after 10 s at most. The error is a [RequestError]
// for an assistant id or a URL that the guard refuses as text, or the store's.
// When ctx ends meanwhile it is ctx's, and the POST may have been sent.
func (s *Service) SendTestCallback(ctx context.Context, assistantID, url string) (Delivery, error) {
	var f faults
	if !ValidAssistantID(assistantID) {
		f.add("/assistant_id", assistantIDRule)
	}
	target, err := s.guard.ParseURL(url)
	if refusal := (*egress.Refusal)(nil); errors.As(err, &refusal) {
		f.add("/callback_url", refusal.Error())
	}
	if err := f.err(); err != nil {
		return Delivery{}, err
	}
	secrets, err := s.store.SigningSecrets(ctx, assistantID)
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
	a := s.attempt(ctx, parcel{url: url, runKey: run.Key, secrets: secrets, body: body}, func(context.Context) error { return nil })
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
