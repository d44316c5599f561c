package webtrigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// This file defines the types that a [Store] and its [Service] exchange.

// Page selects a part of a list that is ordered by descending id.
type Page struct {
	Before int64 // only items with a lower id; if 0, the page starts at the newest
	Limit  int   // maximum number of items; Service replaces 0 with DefaultPageSize and caps the value at MaxPageSize
}

// NewKey is an API key that the store creates.
type NewKey struct {
	AssistantID string
	Name        string
	Prefix      string
	Hash        KeyHash
	ExpiresAt   time.Time // zero if the key does not expire
	Scopes      []Scope
}

// ResourceKind is a kind of resource that belongs to an assistant.
type ResourceKind string

// Kinds of resources.
const (
	ResourceConversation   ResourceKind = "conversation"
	ResourceRun            ResourceKind = "run"
	ResourceTaskDefinition ResourceKind = "task definition"
	ResourceDelivery       ResourceKind = "delivery"
)

// Owner is the assistant and the conversation that a resource belongs to.
type Owner struct {
	AssistantID    string
	ConversationID int64 // 0 for a task definition
}

// NewTrigger is a trigger that the store creates.
type NewTrigger struct {
	RunKey          string // a new UUID
	AssistantID     string
	ConversationID  int64  // the conversation to continue; 0 for the one of ConversationKey
	ConversationKey string // the conversation to continue or to start; "" for a new one without a key
	OnBusy          OnBusy // what happens while a run of the conversation has not ended; "" is BusyEnqueue
	MaxUnfinished   int    // maximum number of unfinished runs of the conversation, including this one; 0 for no limit
	KeyID           int64  // the API key of the caller; 0 for a Go call
	CheckKey        bool   // KeyID was read in an earlier request: see CreateTrigger
	Input           RunInput
	TaskDefinition  *TaskDefinition // the run's own copy; nil if the trigger names none
	BaseURL         string
	CallbackURL     string // "" if there is no callback
	CallbackHost    string // host of CallbackURL, in the form of Delivery.Host; stored for the run's deliveries
	TraceParent     string // W3C traceparent; empty if the request had none
	RequestID       string // id of the request, for logs; empty if it had none
	Idempotency     *Idempotency
	Claim           *Claimant
	MaxQueued       int // maximum number of queued runs of the assistant, including this one; 0 for no limit
}

// Idempotency identifies a trigger, so that a repeated request returns it.
type Idempotency struct {
	Key      string        // 1 to 255 visible ASCII characters, unique per assistant
	BodyHash [32]byte      // SHA-256 of the request body
	TTL      time.Duration // lifetime of the record from its creation
}

// Claimant is the registered process that claims a run at its creation.
type Claimant struct {
	ProcessID string
	Token     int64 // token of the claim; see NewToken
}

// CreatedTrigger is a stored trigger.
type CreatedTrigger struct {
	Run      Run
	Lease    *Lease // nil if the run was not claimed
	Replayed bool   // the trigger already existed; Run is its current state

	// Interrupted are the summaries of the runs that this trigger has ended, by
	// ascending id. A run that was running is not among them: it ends later.
	Interrupted []Run
}

// Process is a worker process in the store.
type Process struct {
	ID          string        // a new UUID for each registration
	Lease       time.Duration // how long its claims last after a renewal
	MaxAttempts int           // number of attempts after which a sweep ends its runs; minimum: 1
}

// Renewed is the result of RenewProcess.
type Renewed struct {
	Registered bool        // false if the process has no row or is lost; nothing was renewed
	Claims     []HeldClaim // all claims of the process, by ascending run id
}

// HeldClaim is one claim of a process.
type HeldClaim struct {
	Lease Lease
	Stop  *Stop // the recorded stop of the run; nil if there is none
}

// Lease identifies the ownership of a run by one attempt. Token is the fencing token.
// It differs for every claim of the run and does not rise.
type Lease struct {
	RunID int64
	Token int64
}

// NewToken returns a random number from 1 to 2^62 for the token of a claim. Random
// tokens differ even if an asynchronous failover of the database lost a claim. There
// is room for the numbers that follow it.
func NewToken() int64 { return 1 + rand.Int64N(1<<62) }

// Claim selects the queued runs that ClaimRuns claims.
type Claim struct {
	ProcessID string // the registered process that claims
	Token     int64  // token of the first run; see NewToken
	Limit     int
	RunID     int64 // 0 for any queued run of the library's own queue

	MaxPerAssistant int // maximum number of running runs of an assistant in all processes; 0 for no limit
	MaxPerKey       int // the same for the runs that one API key created; calls from Go have no key and no limit
}

// ClaimedRun is a run that the caller has claimed.
type ClaimedRun struct {
	Run      Run
	Input    RunInput
	Lease    Lease
	Requeued bool          // the run was claimed before, so it may have recorded steps
	Executed time.Duration // Await.Executed, if the run has waited for input since it was last requeued
}

// EventBatch is a list of events and steps that are stored together, at most once.
type EventBatch struct {
	Number int64 // counts from 1 under one lease; 0 only if the batch is empty
	Events []NewEvent
	Steps  []StepRecord // no step twice
}

// Finish is what a worker reports when a run ends.
type Finish struct {
	Outcome  Outcome
	Events   EventBatch   // emitted events, and steps, that are not known to be stored
	Messages []NewMessage // the transcript, without the result
	Claimed  *Run         // as the claim returned it, so that a store can omit the read of what never changes; nil: it reads the run
}

// Requeue is why a process returns a run to the queue.
type Requeue struct {
	Reason RequeueReason // for RequeueHeartbeat, the process has stopped the Runner because its own lease expired
	Events EventBatch    // emitted events, and steps, that are not known to be stored
}

// Sweep configures one call of SweepRuns.
type Sweep struct {
	ProcessID    string        // the registered process that sweeps
	MaxQueueTime time.Duration // 0 for no limit
	Limit        int           // maximum number of runs to change
	Audit        bool          // also search for runs that the regular search cannot find
}

// HistoryQuery selects the messages that the Runner of a run gets as its history.
type HistoryQuery struct {
	ConversationID int64
	BeforeRunID    int64 // only messages of runs with a lower id
	MaxMessages    int
	MaxBytes       int // maximum size of the contents and tool calls together
}

// RunQuery selects runs, newest first unless OldestFirst is set. A zero field does not
// limit the selection.
type RunQuery struct {
	AssistantID string
	Statuses    []RunStatus
	KeyID       int64

	TaskDefinitionID int64
	CallbackStates   []DeliveryState // of the run's last delivery

	From        time.Time // created at or after this instant
	To          time.Time // created before this instant
	OldestFirst bool      // ascending ids instead of descending ones; Page.Before is then the id that the page follows
	Page        Page

	ConversationID int64   // its runs only
	IDs            []int64 // these runs only; at most MaxPageSize
}

// ConversationQuery selects conversations, newest first. A zero field does not limit
// the selection.
type ConversationQuery struct {
	AssistantID string
	Key         string // exactly this conversation_key; keys of different assistants may be equal
	Page        Page
}

// ConversationSummary is a conversation in a list.
type ConversationSummary struct {
	Conversation     // without Metadata
	LastRun      Run // summary of its newest run
}

// MessageQuery selects messages of a conversation.
type MessageQuery struct {
	ConversationID int64
	RunID          int64 // 0 for all runs
	After          int64 // only higher ids
	Limit          int
}

// DeliveryQuery selects the pending deliveries that LeaseDeliveries leases.
type DeliveryQuery struct {
	Token    int64         // token of the first delivery; see NewToken
	Lease    time.Duration // duration of the lease
	Limit    int
	Reserved int // part of Limit for assistants without a delivery in progress

	PerHost int            // maximum number per host, including those in Busy; 0 for no limit
	Busy    map[string]int // deliveries in progress in the calling process, by host
	Resting []string       // hosts whose retries must wait

	PerAssistant   int            // maximum number per assistant, including those in BusyAssistants; 0 for no limit
	Alone          int            // the maximum instead, for an assistant while no other waits; ignored unless it is higher
	BusyAssistants map[string]int // deliveries in progress in the calling process, by assistant
}

// DeliveryLease identifies the lease of one delivery.
type DeliveryLease struct {
	DeliveryID int64
	Token      int64
}

// LeasedDelivery is a delivery to send, with the ended run that it reports.
type LeasedDelivery struct {
	Delivery Delivery
	Run      Run
	Lease    DeliveryLease
	LeasedAt time.Time       // time of the lease, by the store's clock
	Secrets  []SigningSecret // the assistant's own secrets, as of the lease
}

// DeliveryOutcome is the outcome of a delivery.
type DeliveryOutcome struct {
	State        DeliveryState // delivered, failed or blocked
	HTTPStatus   int           // 0 if there was no response
	Latency      time.Duration // duration of the exchange after the connection was established
	FailureClass FailureClass  // "" if there was no failure
	Error        string        // "" if there was no failure
	Response     string        // start of the response body, sanitized
	RetryIn      time.Duration // failed only: create a retry that is due after this time; 0 for none
}

// RunInput is the input of a caller. The conversation also keeps the subject and the
// metadata of the run that started it.
type RunInput struct {
	Subject  string
	Message  string
	Context  json.RawMessage // a JSON object; nil if there is none
	Metadata json.RawMessage // any JSON value; nil if there is none
}

// UnimplementedStore is a [Store] in which each method returns an error that
// wraps [errors.ErrUnsupported] and contains the name of the method. Embed it in a
// store of your own: the store then still compiles after a minor version adds a
// method to Store.
type UnimplementedStore struct{ unimplementedStore }

var _ Store = UnimplementedStore{}

// unimplementedStore has the methods, which godoc would list one by one.
type unimplementedStore struct{}

func unimplemented(method string) error {
	return fmt.Errorf("webtrigger: store method %s: %w", method, errors.ErrUnsupported)
}

func (unimplementedStore) Ping(context.Context) error { return unimplemented("Ping") }
func (unimplementedStore) Channel(context.Context, string) (Channel, error) {
	return Channel{}, unimplemented("Channel")
}
func (unimplementedStore) SetChannel(context.Context, Channel) error {
	return unimplemented("SetChannel")
}
func (unimplementedStore) SigningSecrets(context.Context, string) (SigningSecretSet, error) {
	return SigningSecretSet{}, unimplemented("SigningSecrets")
}
func (unimplementedStore) SetSigningSecrets(context.Context, string, []SigningSecret) error {
	return unimplemented("SetSigningSecrets")
}
func (unimplementedStore) Assistants(context.Context, string, int) ([]string, error) {
	return nil, unimplemented("Assistants")
}
func (unimplementedStore) CreateKey(context.Context, NewKey) (Key, error) {
	return Key{}, unimplemented("CreateKey")
}
func (unimplementedStore) Key(context.Context, int64) (Key, error) {
	return Key{}, unimplemented("Key")
}
func (unimplementedStore) Keys(context.Context, KeyQuery) ([]Key, error) {
	return nil, unimplemented("Keys")
}
func (unimplementedStore) RevokeKey(context.Context, int64) (Key, error) {
	return Key{}, unimplemented("RevokeKey")
}
func (unimplementedStore) ReplaceKey(context.Context, int64, NewKey, time.Duration) (Key, error) {
	return Key{}, unimplemented("ReplaceKey")
}
func (unimplementedStore) TouchKey(context.Context, int64, time.Duration) error {
	return unimplemented("TouchKey")
}
func (unimplementedStore) Authenticate(context.Context, KeyHash, int64, int64) (Grant, error) {
	return Grant{}, unimplemented("Authenticate")
}
func (unimplementedStore) CreateTaskDefinition(context.Context, TaskDefinition) (TaskDefinition, error) {
	return TaskDefinition{}, unimplemented("CreateTaskDefinition")
}
func (unimplementedStore) TaskDefinition(context.Context, int64) (TaskDefinition, error) {
	return TaskDefinition{}, unimplemented("TaskDefinition")
}
func (unimplementedStore) TaskDefinitions(context.Context, TaskDefinitionQuery) ([]TaskDefinition, error) {
	return nil, unimplemented("TaskDefinitions")
}
func (unimplementedStore) UpdateTaskDefinition(context.Context, TaskDefinition) (TaskDefinition, error) {
	return TaskDefinition{}, unimplemented("UpdateTaskDefinition")
}
func (unimplementedStore) DeleteTaskDefinition(context.Context, int64) error {
	return unimplemented("DeleteTaskDefinition")
}
func (unimplementedStore) CreateTrigger(context.Context, NewTrigger) (CreatedTrigger, error) {
	return CreatedTrigger{}, unimplemented("CreateTrigger")
}
func (unimplementedStore) Replay(context.Context, string, Idempotency) (Run, error) {
	return Run{}, unimplemented("Replay")
}
func (unimplementedStore) RunByID(context.Context, int64) (Run, error) {
	return Run{}, unimplemented("RunByID")
}
func (unimplementedStore) RunSummary(context.Context, int64) (Run, error) {
	return Run{}, unimplemented("RunSummary")
}
func (unimplementedStore) RunByKey(context.Context, string) (Run, error) {
	return Run{}, unimplemented("RunByKey")
}
func (unimplementedStore) Runs(context.Context, RunQuery) ([]Run, error) {
	return nil, unimplemented("Runs")
}
func (unimplementedStore) CountRuns(context.Context, RunQuery, int) (map[RunStatus]int, error) {
	return nil, unimplemented("CountRuns")
}
func (unimplementedStore) RunTexts(context.Context, RunQuery, bool) ([]RunTexts, error) {
	return nil, unimplemented("RunTexts")
}
func (unimplementedStore) RunLabels(context.Context, []int64) (map[int64]RunLabels, error) {
	return nil, unimplemented("RunLabels")
}
func (unimplementedStore) RunInput(context.Context, int64) (RunInput, error) {
	return RunInput{}, unimplemented("RunInput")
}
func (unimplementedStore) Conversation(context.Context, int64) (Conversation, error) {
	return Conversation{}, unimplemented("Conversation")
}
func (unimplementedStore) Conversations(context.Context, ConversationQuery) ([]ConversationSummary, error) {
	return nil, unimplemented("Conversations")
}
func (unimplementedStore) Messages(context.Context, MessageQuery) ([]Message, error) {
	return nil, unimplemented("Messages")
}
func (unimplementedStore) History(context.Context, HistoryQuery) ([]Message, error) {
	return nil, unimplemented("History")
}
func (unimplementedStore) RequestStop(context.Context, int64, Stop, *Lease) (Run, error) {
	return Run{}, unimplemented("RequestStop")
}
func (unimplementedStore) RegisterProcess(context.Context, Process) error {
	return unimplemented("RegisterProcess")
}
func (unimplementedStore) RenewProcess(context.Context, Process) (Renewed, error) {
	return Renewed{}, unimplemented("RenewProcess")
}
func (unimplementedStore) RemoveProcess(context.Context, string) error {
	return unimplemented("RemoveProcess")
}
func (unimplementedStore) ClaimRuns(context.Context, Claim) ([]ClaimedRun, error) {
	return nil, unimplemented("ClaimRuns")
}
func (unimplementedStore) AppendEvents(context.Context, Lease, EventBatch) error {
	return unimplemented("AppendEvents")
}
func (unimplementedStore) Steps(context.Context, int64) ([]StepRecord, error) {
	return nil, unimplemented("Steps")
}
func (unimplementedStore) FinishRun(context.Context, Lease, Finish) (Run, error) {
	return Run{}, unimplemented("FinishRun")
}
func (unimplementedStore) RequeueRun(context.Context, Lease, Requeue) (Run, error) {
	return Run{}, unimplemented("RequeueRun")
}
func (unimplementedStore) AwaitInput(context.Context, Lease, Await) (Run, error) {
	return Run{}, unimplemented("AwaitInput")
}
func (unimplementedStore) AnswerInput(context.Context, NewAnswer) (Run, error) {
	return Run{}, unimplemented("AnswerInput")
}
func (unimplementedStore) Input(context.Context, int64) (Input, error) {
	return Input{}, unimplemented("Input")
}
func (unimplementedStore) Inputs(context.Context, int64) ([]Input, error) {
	return nil, unimplemented("Inputs")
}
func (unimplementedStore) OpenInputs(context.Context, []int64) (map[int64]Input, error) {
	return nil, unimplemented("OpenInputs")
}
func (unimplementedStore) SweepRuns(context.Context, Sweep) ([]Run, error) {
	return nil, unimplemented("SweepRuns")
}
func (unimplementedStore) QueueState(context.Context) (QueueState, error) {
	return QueueState{}, unimplemented("QueueState")
}
func (unimplementedStore) Events(context.Context, EventQuery) (EventPage, error) {
	return EventPage{}, unimplemented("Events")
}
func (unimplementedStore) LastEventIDs(context.Context, []int64) (map[int64]int64, error) {
	return nil, unimplemented("LastEventIDs")
}
func (unimplementedStore) Watch(context.Context, func(Hint)) error { return unimplemented("Watch") }
func (unimplementedStore) LeaseDeliveries(context.Context, DeliveryQuery) ([]LeasedDelivery, error) {
	return nil, unimplemented("LeaseDeliveries")
}
func (unimplementedStore) ClaimDelivery(context.Context, DeliveryLease) error {
	return unimplemented("ClaimDelivery")
}
func (unimplementedStore) ReturnDelivery(context.Context, DeliveryLease) error {
	return unimplemented("ReturnDelivery")
}
func (unimplementedStore) FinishDelivery(context.Context, DeliveryLease, DeliveryOutcome) error {
	return unimplemented("FinishDelivery")
}
func (unimplementedStore) SweepDeliveries(context.Context, time.Duration, int) ([]Delivery, error) {
	return nil, unimplemented("SweepDeliveries")
}
func (unimplementedStore) Delivery(context.Context, int64) (Delivery, error) {
	return Delivery{}, unimplemented("Delivery")
}
func (unimplementedStore) Deliveries(context.Context, int64) ([]Delivery, error) {
	return nil, unimplemented("Deliveries")
}
func (unimplementedStore) FindDeliveries(context.Context, DeliveryFilter) ([]Delivery, error) {
	return nil, unimplemented("FindDeliveries")
}
func (unimplementedStore) CountDeliveries(context.Context, DeliveryFilter, int) ([]DeliveryCount, error) {
	return nil, unimplemented("CountDeliveries")
}
func (unimplementedStore) Redeliver(context.Context, int64) (Delivery, error) {
	return Delivery{}, unimplemented("Redeliver")
}
func (unimplementedStore) Purge(context.Context, Purge) (Purged, error) {
	return Purged{}, unimplemented("Purge")
}
func (unimplementedStore) RecordPass(context.Context, Purged) error {
	return unimplemented("RecordPass")
}
func (unimplementedStore) DataState(context.Context) (DataState, error) {
	return DataState{}, unimplemented("DataState")
}
func (unimplementedStore) EndCounts(context.Context, StatsQuery) ([]EndCount, bool, error) {
	return nil, false, unimplemented("EndCounts")
}
func (unimplementedStore) ErrorCounts(context.Context, string, time.Time, int) ([]ErrorCount, error) {
	return nil, unimplemented("ErrorCounts")
}
func (unimplementedStore) Audit(context.Context, AuditQuery) ([]AuditEntry, error) {
	return nil, unimplemented("Audit")
}
func (unimplementedStore) Owner(context.Context, ResourceKind, int64) (Owner, error) {
	return Owner{}, unimplemented("Owner")
}
func (unimplementedStore) EraseTrigger(context.Context, int64) error {
	return unimplemented("EraseTrigger")
}
