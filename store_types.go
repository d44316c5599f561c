package webtrigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// What a [Store] and its [Service] tell each other.

// Page is a piece of a list that is ordered by falling id.
type Page struct {
	Before int64 // only items with a lower id; 0 starts at the newest
	Limit  int   // how many at most; Service makes 0 a DefaultPageSize and caps at MaxPageSize
}

// NewKey is an API key to be stored.
type NewKey struct {
	AssistantID string
	Name        string
	Prefix      string
	Hash        KeyHash
	ExpiresAt   time.Time // zero: never
}

// Grant is what a valid key gives a request.
type Grant struct {
	Key     Key
	Channel Channel
	Run     *Run
}

// NewTrigger is a trigger to be stored.
type NewTrigger struct {
	RunKey         string // a fresh UUID
	AssistantID    string
	ConversationID int64 // 0: a new conversation
	KeyID          int64 // the API key that triggered; 0: a Go call
	Input          RunInput
	TaskDefinition *TaskDefinition // the run's own copy; nil: none
	BaseURL        string
	CallbackURL    string // "": none
	CallbackHost   string // of the URL, as Delivery.Host; kept for the run's deliveries
	TraceParent    string // W3C traceparent; "": none
	RequestID      string // of the request that triggers, for logs; "": none
	Idempotency    *Idempotency
	Claim          *Claimant
	MaxQueued      int // how many runs of the assistant may wait, this one included; 0: any number
}

// Idempotency names a trigger so that a repeated request finds it.
type Idempotency struct {
	Key      string        // 1 to 255 visible ASCII characters; scope is the assistant
	BodyHash [32]byte      // SHA-256 of the request body
	TTL      time.Duration // how long the record lives from its creation
}

// Claimant is the worker that claims a run, and the duration of its lease.
type Claimant struct {
	Worker string
	Lease  time.Duration
}

// CreatedTrigger is a stored trigger.
type CreatedTrigger struct {
	Run      Run
	Lease    *Lease // nil unless the run was taken
	Replayed bool   // the trigger stood already; Run is as it is now
}

// Lease is the hold of one attempt on a run. Token is the fencing token: it
// differs for every taking of the run and rises.
type Lease struct {
	RunID int64
	Token int64
}

// Claim asks for queued runs.
type Claim struct {
	Worker string        // who takes; a store may show it to operators
	Lease  time.Duration // how long the hold lasts without renewal
	Limit  int
	RunID  int64 // 0: any run that the native queue may hand out
}

// ClaimedRun is a run that the caller now holds.
type ClaimedRun struct {
	Run   Run
	Input RunInput
	Lease Lease
}

// Renewal is what RenewLeases says of one lease.
type Renewal struct {
	Renewed bool
	Stop    *Stop // recorded for the run while it is held; nil: none
}

// EventBatch is events that are stored together, at most once.
type EventBatch struct {
	Number int64 // counts from 1 under one lease; 0 only when there are no events
	Events []NewEvent
}

// Finish is what a worker reports at the end of a run.
type Finish struct {
	Outcome  Outcome
	Events   EventBatch   // emitted and not known to be stored
	Messages []NewMessage // the transcript, without the result
}

// Sweep says what to look for.
type Sweep struct {
	MaxAttempts  int           // attempts a run may use in all; at least 1
	MaxQueueTime time.Duration // 0: no limit
	Limit        int
	Audit        bool
}

// RunQuery selects runs, newest first; zero fields do not limit.
type RunQuery struct {
	AssistantID string
	Status      RunStatus
	KeyID       int64
	From        time.Time // created at this instant or later
	To          time.Time // created before this instant
	Page        Page
}

// Purge says what to forget.
type Purge struct {
	Keep  Retention
	After int64 // where the pass has come to: only runs with a higher id; 0 begins
	Limit int   // how many runs' events and how many triggers at most
}

// Purged is what a Purge has forgotten.
type Purged struct {
	Events   int   // runs that lost their events and stay
	Triggers int   // triggers that went whole
	Next     int64 // After of the pass's next call; 0: the pass is over
}

// EventQuery selects events of one conversation. An event is returned when it
// passes every cursor.
type EventQuery struct {
	ConversationID int64
	RunID          int64 // 0: all runs
	AfterID        int64 // only higher ids
	AfterSequence  int64 // only higher sequences; with RunID
	Limit          int
	MaxBytes       int // of payloads in a page, which has one event at least; 0: no bound
}

// EventPage is one read of the event log, at one instant.
type EventPage struct {
	Events []Event
	More   bool  // Limit or MaxBytes ended the page: more events pass the query
	LastID int64 // the conversation's last event id, of any run; 0: none
	Ended  bool  // every run that the query covers has ended; a run adds nothing after that

	// PurgedTo is the highest id of an event that the query selects, after its
	// cursors, and that retention has purged; 0: none. Events that still stand may
	// have lower ids.
	PurgedTo int64
}

// Hint is a store's word that something moved. It is never the whole truth; a
// zero Hint says that anything may have happened.
type Hint struct {
	Queued        bool    // runs wait to be taken
	Pending       bool    // deliveries wait to be sent
	Conversations []int64 // have new events, others than those in Events
	Stopped       []int64 // runs for which a stop was recorded

	// Events are new ones of AppendEvents, as Events reads them but for the RunKey,
	// which may be missing; those of one batch lie together. A store may name their
	// conversations instead.
	Events []Event
}

// isZero reports whether the hint names nothing.
func (h Hint) isZero() bool {
	return !h.Queued && !h.Pending && len(h.Conversations) == 0 && len(h.Stopped) == 0 && len(h.Events) == 0
}

// DeliveryQuery asks for owed deliveries.
type DeliveryQuery struct {
	Lease   time.Duration // how long the preparation may take
	Limit   int
	PerHost int            // how many to one host, those of Busy counted in; 0: no bound
	Busy    map[string]int // how many to each host the caller has under way already
	Resting []string       // hosts whose retries are to wait
}

// DeliveryLease is the hold on one delivery.
type DeliveryLease struct {
	DeliveryID int64
	Token      int64
}

// LeasedDelivery is a delivery to be made, with the ended run that it tells of.
type LeasedDelivery struct {
	Delivery Delivery
	Run      Run
	Lease    DeliveryLease
	LeasedAt time.Time       // now, on the store's clock
	Secrets  []SigningSecret // the assistant's own, as they are now
}

// DeliveryOutcome is how a delivery ended.
type DeliveryOutcome struct {
	State        DeliveryState // delivered, failed or blocked
	HTTPStatus   int           // 0: no answer
	Latency      time.Duration // of the exchange after the connection stood
	FailureClass FailureClass  // "": none
	Error        string        // "": none
	Response     string        // the start of the answer's body, valid UTF-8 without NUL
	RetryIn      time.Duration // failed only: owe a retry, due so long from now; 0: none
}

// RunInput is what a caller sent: message and context belong to the run,
// subject and metadata to the conversation that it started.
type RunInput struct {
	Subject  string
	Message  string
	Context  json.RawMessage // a JSON object; nil: none
	Metadata json.RawMessage // any JSON value; nil: none
}

// UnimplementedStore is a [Store] in which each method returns an error that
// wraps [errors.ErrUnsupported] and contains the name of the method. Embed it in a
// store of your own: the store then still compiles after a minor version adds a
// method to Store.
type UnimplementedStore struct{}

var _ Store = UnimplementedStore{}

func unimplemented(method string) error {
	return fmt.Errorf("webtrigger: store method %s: %w", method, errors.ErrUnsupported)
}

func (UnimplementedStore) Ping(context.Context) error { return unimplemented("Ping") }
func (UnimplementedStore) Channel(context.Context, string) (Channel, error) {
	return Channel{}, unimplemented("Channel")
}
func (UnimplementedStore) SetChannel(context.Context, Channel) error {
	return unimplemented("SetChannel")
}
func (UnimplementedStore) SigningSecrets(context.Context, string) ([]SigningSecret, error) {
	return nil, unimplemented("SigningSecrets")
}
func (UnimplementedStore) SetSigningSecrets(context.Context, string, []SigningSecret) error {
	return unimplemented("SetSigningSecrets")
}
func (UnimplementedStore) Assistants(context.Context, string, int) ([]string, error) {
	return nil, unimplemented("Assistants")
}
func (UnimplementedStore) CreateKey(context.Context, NewKey) (Key, error) {
	return Key{}, unimplemented("CreateKey")
}
func (UnimplementedStore) Key(context.Context, int64) (Key, error) {
	return Key{}, unimplemented("Key")
}
func (UnimplementedStore) Keys(context.Context, string, Page) ([]Key, error) {
	return nil, unimplemented("Keys")
}
func (UnimplementedStore) RevokeKey(context.Context, int64) (Key, error) {
	return Key{}, unimplemented("RevokeKey")
}
func (UnimplementedStore) ReplaceKey(context.Context, int64, NewKey, time.Duration) (Key, error) {
	return Key{}, unimplemented("ReplaceKey")
}
func (UnimplementedStore) TouchKey(context.Context, int64, time.Duration) error {
	return unimplemented("TouchKey")
}
func (UnimplementedStore) Authenticate(context.Context, KeyHash, int64) (Grant, error) {
	return Grant{}, unimplemented("Authenticate")
}
func (UnimplementedStore) CreateTaskDefinition(context.Context, TaskDefinition) (TaskDefinition, error) {
	return TaskDefinition{}, unimplemented("CreateTaskDefinition")
}
func (UnimplementedStore) TaskDefinition(context.Context, int64) (TaskDefinition, error) {
	return TaskDefinition{}, unimplemented("TaskDefinition")
}
func (UnimplementedStore) TaskDefinitions(context.Context, string, Page) ([]TaskDefinition, error) {
	return nil, unimplemented("TaskDefinitions")
}
func (UnimplementedStore) UpdateTaskDefinition(context.Context, TaskDefinition) (TaskDefinition, error) {
	return TaskDefinition{}, unimplemented("UpdateTaskDefinition")
}
func (UnimplementedStore) DeleteTaskDefinition(context.Context, int64) error {
	return unimplemented("DeleteTaskDefinition")
}
func (UnimplementedStore) CreateTrigger(context.Context, NewTrigger) (CreatedTrigger, error) {
	return CreatedTrigger{}, unimplemented("CreateTrigger")
}
func (UnimplementedStore) Replay(context.Context, string, Idempotency) (Run, error) {
	return Run{}, unimplemented("Replay")
}
func (UnimplementedStore) RunByID(context.Context, int64) (Run, error) {
	return Run{}, unimplemented("RunByID")
}
func (UnimplementedStore) RunByKey(context.Context, string) (Run, error) {
	return Run{}, unimplemented("RunByKey")
}
func (UnimplementedStore) Runs(context.Context, RunQuery) ([]Run, error) {
	return nil, unimplemented("Runs")
}
func (UnimplementedStore) RunInput(context.Context, int64) (RunInput, error) {
	return RunInput{}, unimplemented("RunInput")
}
func (UnimplementedStore) Conversation(context.Context, int64) (Conversation, error) {
	return Conversation{}, unimplemented("Conversation")
}
func (UnimplementedStore) Messages(context.Context, int64, int64, int) ([]Message, error) {
	return nil, unimplemented("Messages")
}
func (UnimplementedStore) RequestStop(context.Context, int64, Stop, *Lease) (Run, error) {
	return Run{}, unimplemented("RequestStop")
}
func (UnimplementedStore) ClaimRuns(context.Context, Claim) ([]ClaimedRun, error) {
	return nil, unimplemented("ClaimRuns")
}
func (UnimplementedStore) RenewLeases(context.Context, []Lease, time.Duration) ([]Renewal, error) {
	return nil, unimplemented("RenewLeases")
}
func (UnimplementedStore) AppendEvents(context.Context, Lease, EventBatch) error {
	return unimplemented("AppendEvents")
}
func (UnimplementedStore) FinishRun(context.Context, Lease, Finish) (Run, error) {
	return Run{}, unimplemented("FinishRun")
}
func (UnimplementedStore) RequeueRun(context.Context, Lease, EventBatch) (Run, error) {
	return Run{}, unimplemented("RequeueRun")
}
func (UnimplementedStore) SweepRuns(context.Context, Sweep) ([]Run, error) {
	return nil, unimplemented("SweepRuns")
}
func (UnimplementedStore) QueueState(context.Context) (QueueState, error) {
	return QueueState{}, unimplemented("QueueState")
}
func (UnimplementedStore) Events(context.Context, EventQuery) (EventPage, error) {
	return EventPage{}, unimplemented("Events")
}
func (UnimplementedStore) LastEventIDs(context.Context, []int64) (map[int64]int64, error) {
	return nil, unimplemented("LastEventIDs")
}
func (UnimplementedStore) Watch(context.Context, func(Hint)) error { return unimplemented("Watch") }
func (UnimplementedStore) LeaseDeliveries(context.Context, DeliveryQuery) ([]LeasedDelivery, error) {
	return nil, unimplemented("LeaseDeliveries")
}
func (UnimplementedStore) ClaimDelivery(context.Context, DeliveryLease) error {
	return unimplemented("ClaimDelivery")
}
func (UnimplementedStore) FinishDelivery(context.Context, DeliveryLease, DeliveryOutcome) error {
	return unimplemented("FinishDelivery")
}
func (UnimplementedStore) SweepDeliveries(context.Context, time.Duration, int) ([]Delivery, error) {
	return nil, unimplemented("SweepDeliveries")
}
func (UnimplementedStore) Delivery(context.Context, int64) (Delivery, error) {
	return Delivery{}, unimplemented("Delivery")
}
func (UnimplementedStore) Deliveries(context.Context, int64) ([]Delivery, error) {
	return nil, unimplemented("Deliveries")
}
func (UnimplementedStore) Redeliver(context.Context, int64) (Delivery, error) {
	return Delivery{}, unimplemented("Redeliver")
}
func (UnimplementedStore) Purge(context.Context, Purge) (Purged, error) {
	return Purged{}, unimplemented("Purge")
}
func (UnimplementedStore) EraseTrigger(context.Context, int64) error {
	return unimplemented("EraseTrigger")
}
