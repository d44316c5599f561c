package webtrigger

import (
	"context"
	"time"
)

// Store is the persistence driver behind a [Service]: it stores API keys, triggers,
// runs, events and deliveries. store/memstore is the reference implementation. Every
// store must pass the whole suite of store/storetest.
//
// # Implementations
//
// You may implement a Store. Most hosts use store/bunstore or store/memstore, or wrap
// one of them. Methods may be added in minor versions. Embed [UnimplementedStore], so
// that your store then still compiles. A new method returns [errors.ErrUnsupported]
// until you implement it. The changelog names each new method and what works without
// it. Methods are not removed or changed within a major version.
//
// # Duties of the Service
//
// The Service validates arguments before it calls a store:
//
//   - Ids are well-formed, and limits are positive.
//   - Texts are valid UTF-8 without NUL.
//   - JSON is valid. The store must store it byte for byte.
//
// A store therefore does no validation and defines no user-visible text. All such
// text comes from the caller or from [Outcome] and its helper functions.
//
// # Duties of the store
//
//   - One method call is one atomic transition. The store must store all of it or
//     nothing. No transaction appears in a signature. A store may commit concurrent
//     calls together (group commit) if each caller waits for its own result.
//   - All methods must be safe for concurrent use. The store must not keep arguments
//     and must return copies, so that neither side sees later changes of the other.
//   - The store's clock sets all times: leases, expiries and timestamps. The clocks
//     of callers do not matter. Results are in UTC, truncated to microseconds. The
//     zero time means "not yet" or "never".
//   - Ids must be positive and must rise with creation.
//   - If a resource does not exist, the method must return [ErrNotFound]. The list of
//     its children is empty, without an error.
//   - If the store is unavailable, the method must return an error that wraps
//     [ErrUnavailable]. The outcome of a write is then unknown to the caller, unless
//     the error also wraps [ErrNotStored].
//   - If ctx has ended before the call, the method must write nothing and must return
//     an error that wraps the error of ctx.
//
// # Lock order
//
// If a transition locks several rows, it must lock them in one order, which the store
// documents. It must lock rows of one kind by ascending id.
type Store interface {
	ChannelStore
	KeyStore
	TaskDefinitionStore
	TriggerStore
	RunStore
	InputStore
	ProcessStore
	WorkStore
	StepStore
	EventStore
	DeliveryStore
	RetentionStore
	AuditStore
	StatsStore

	// Owner returns the assistant and the conversation of a resource. It must read
	// nothing else of the resource, so that the cost of a request without permission
	// does not depend on the resource.
	Owner(ctx context.Context, kind ResourceKind, id int64) (Owner, error)

	// Ping returns nil if the store responds.
	Ping(ctx context.Context) error
}

// KeyStore stores API keys. It receives only their hashes, and no method returns a
// hash.
type KeyStore interface {
	// CreateKey stores a key and returns it with its id and creation time. It returns
	// ErrConflict if the hash exists.
	CreateKey(ctx context.Context, key NewKey) (Key, error)

	// Key returns one key, including a revoked or expired one.
	Key(ctx context.Context, keyID int64) (Key, error)

	// Keys lists keys, newest first.
	Keys(ctx context.Context, query KeyQuery) ([]Key, error)

	// RevokeKey revokes the key immediately and returns it. If the key is already
	// revoked, its revocation time does not change.
	RevokeKey(ctx context.Context, keyID int64) (Key, error)

	// ReplaceKey stores a new key that replaces another one, in one transition, and
	// returns the new key. The old key expires after grace, or at its own expiry if
	// that is earlier. It returns ErrConflict if the old key is revoked or expired,
	// or if the new hash exists.
	ReplaceKey(ctx context.Context, keyID int64, key NewKey, grace time.Duration) (Key, error)

	// TouchKey sets the key's last use to now, unless the stored time is younger than
	// precision. A key that does not exist is not an error.
	TouchKey(ctx context.Context, keyID int64, precision time.Duration) error

	// Authenticate returns, as of one instant, the key, its assistant's settings and,
	// if triggerID is not 0, the summary of the run runID of that conversation, or of
	// its first run if runID is 0. The run is nil if it does not exist, belongs to
	// another conversation or is purged, or if the conversation does not exist or
	// belongs to another assistant.
	// The run also has its result, unless that is larger than MaxGrantResultBytes:
	// the result of one request must not delay the others. Authenticate returns
	// ErrNotFound if the key is unknown, revoked or expired. It must see every
	// revocation that returned, in any process, before the call.
	Authenticate(ctx context.Context, hash KeyHash, triggerID, runID int64) (Grant, error)
}

// TaskDefinitionStore stores task definitions.
type TaskDefinitionStore interface {
	// CreateTaskDefinition stores a definition and returns it with its id and times.
	CreateTaskDefinition(ctx context.Context, task TaskDefinition) (TaskDefinition, error)

	// TaskDefinition returns one definition, including an inactive one.
	TaskDefinition(ctx context.Context, taskID int64) (TaskDefinition, error)

	// TaskDefinitions lists definitions, newest first.
	TaskDefinitions(ctx context.Context, query TaskDefinitionQuery) ([]TaskDefinition, error)

	// UpdateTaskDefinition replaces the content of the definition with the given id.
	// Assistant and creation time do not change. Existing runs keep their copy. If
	// task.UpdatedAt is set and differs from the stored time, another update came first:
	// UpdateTaskDefinition stores nothing and returns ErrConflict. The time of an update
	// is later than the one before.
	UpdateTaskDefinition(ctx context.Context, task TaskDefinition) (TaskDefinition, error)

	// DeleteTaskDefinition deletes a definition. Existing runs keep their copy.
	DeleteTaskDefinition(ctx context.Context, taskID int64) error
}

// TriggerStore contains the methods that trigger creation uses. A store on a database
// may provide a TriggerStore inside a transaction of the host (see
// [Service.TriggerVia]). Its CreateTrigger must not claim runs, and its writes take
// effect when the host commits.
type TriggerStore interface {
	// Channel and TaskDefinition are those of ChannelStore and TaskDefinitionStore.
	Channel(ctx context.Context, assistantID string) (Channel, error)
	TaskDefinition(ctx context.Context, taskID int64) (TaskDefinition, error)

	// CreateTrigger stores the conversation, its message, the run and the run's first
	// event (QueuedEvent, sequence 1).
	//
	// If t.CheckKey is set, CreateTrigger first checks, in the same transition, that the
	// API key t.KeyID of the assistant is neither revoked nor expired, that the
	// assistant's channel is enabled, and that it allows callback URLs if t has one.
	// Otherwise it stores nothing and returns ErrKeyChanged, whatever else is wrong. It
	// must see every change that returned, in any process, before the call.
	//
	// If t.Claim is set, CreateTrigger also claims the run in the same transition, as
	// ClaimRuns would, and returns the lease. A store may decline the claim; the run
	// is then queued.
	//
	// If t.ConversationID is set, the run joins that conversation. CreateTrigger
	// returns ErrNotFound if the assistant has no such conversation. If
	// t.ConversationKey is set, the run joins the assistant's conversation with that
	// key, or starts it. Of several concurrent first triggers, exactly one must start
	// it. The conversation keeps the subject and metadata that it was started with.
	//
	// The runs of a conversation are its lane. The oldest unfinished one is the head.
	// A run that is created behind another one is queued with Behind set. It is not
	// claimed, neither by t.Claim nor by ClaimRuns. The transition that ends the head,
	// whichever it is, must make the next run claimable. Run ids must rise with the
	// creation within a conversation.
	//
	// If a run of the conversation has not ended, t.OnBusy decides. With BusyReject,
	// CreateTrigger returns ErrConversationBusy. With BusyInterrupt, it records
	// InterruptStop for each unfinished run in the same transition, as RequestStop
	// would: a queued run ends. If the conversation then still has t.MaxUnfinished
	// unfinished runs, CreateTrigger returns ErrConversationFull and changes nothing.
	//
	// If t.Idempotency is set and the assistant has a live record of that idempotency
	// key, nothing is stored. If the body hash is the same, CreateTrigger returns the
	// first trigger with Replayed set and the summary of its run. Otherwise it
	// returns ErrIdempotencyKeyReused. Of several concurrent calls, exactly one must
	// store a trigger.
	//
	// If t.MaxQueued is set, a run that is not claimed counts toward a limit. The
	// limit covers the assistant's queued runs that were created with a MaxQueued,
	// except those that this call ends. If it is reached, CreateTrigger stores nothing
	// and returns ErrQueueFull. A replay does not count. Concurrent calls must not
	// exceed the limit together. Only a TriggerStore inside a transaction of the host
	// may miss concurrent writes, because other calls must not wait for that
	// transaction.
	CreateTrigger(ctx context.Context, t NewTrigger) (CreatedTrigger, error)

	// Replay returns the run that CreateTrigger would replay: the current summary of
	// the run of the live record with this assistant and idempotency key. It returns
	// ErrIdempotencyKeyReused if the body hash differs, and ErrNotFound if there is
	// no live record.
	Replay(ctx context.Context, assistantID string, use Idempotency) (Run, error)
}

// RunStore reads runs and records requests to stop them.
//
// The summary of a run has neither Result nor TaskDefinition. A store must not read
// these from the database for a summary.
type RunStore interface {
	// RunByID returns one run.
	RunByID(ctx context.Context, runID int64) (Run, error)

	// RunSummary returns the summary of one run.
	RunSummary(ctx context.Context, runID int64) (Run, error)

	// RunByKey returns the summary of the run with the given run_key.
	RunByKey(ctx context.Context, runKey string) (Run, error)

	// Runs lists the summaries of runs that match query.
	Runs(ctx context.Context, query RunQuery) ([]Run, error)

	// CountRuns counts the runs that match query by status, at most limit of each
	// status. A status without runs is absent. Without query.Statuses it counts all of
	// them. query.Page does not apply.
	CountRuns(ctx context.Context, query RunQuery, limit int) (map[RunStatus]int, error)

	// RunTexts returns the texts of the runs that match query, in the same order as Runs. If
	// all is false, Message, Result and Metadata are empty.
	RunTexts(ctx context.Context, query RunQuery, all bool) ([]RunTexts, error)

	// RunLabels returns the labels of runs. Runs that do not exist are absent from the
	// map.
	RunLabels(ctx context.Context, runIDs []int64) (map[int64]RunLabels, error)

	// RunInput returns the caller's input, byte for byte.
	RunInput(ctx context.Context, runID int64) (RunInput, error)

	// Conversation returns one conversation.
	Conversation(ctx context.Context, conversationID int64) (Conversation, error)

	// Conversations lists conversations by descending id, each with the summary of its
	// newest run. Metadata is nil.
	Conversations(ctx context.Context, query ConversationQuery) ([]ConversationSummary, error)

	// Messages lists the messages of a conversation in the order in which they were
	// stored. If the conversation does not exist, the list is empty.
	Messages(ctx context.Context, query MessageQuery) ([]Message, error)

	// History returns the newest messages of the earlier runs of a conversation,
	// ordered by run, then by message. Of this list it returns the longest end that is
	// within both limits of query. If the conversation does not exist, the list is
	// empty.
	History(ctx context.Context, query HistoryQuery) ([]Message, error)

	// RequestStop records that a run must end as stop specifies. It returns the
	// resulting run.
	//
	//   - An ended run is returned unchanged.
	//   - A queued or waiting run ends immediately. If stop is a cancellation, a
	//     CancelRequestedEvent is stored first. The terminal transition follows (see
	//     WorkStore.FinishRun).
	//   - For a running run, stop is recorded. If it is a cancellation, a
	//     CancelRequestedEvent is stored. The recorded stop decides the outcome,
	//     regardless of what the worker reports. The first recorded stop stays; a
	//     later one changes nothing and is not an error.
	//
	// If lease is not nil, the worker of the run requests the stop (a deadline).
	// RequestStop then returns ErrLeaseLost unless the run is running under that
	// lease, also if the run has ended.
	RequestStop(ctx context.Context, runID int64, stop Stop, lease *Lease) (Run, error)
}

// ProcessStore stores the worker processes. A process registers before it claims runs,
// and renews its row regularly. All of its claims are valid as long as the row.
//
// A process is in contact since its registration, or since the last renewal that came
// more than two thirds of a lease after the one before. A sweep by another process may
// mark an expired process as lost if the last renewal of the sweeping process is at most
// two thirds of its lease old, and if it has been in contact for at least one lease of
// the expired one. So a pause of the whole store that lets a row expire also ends the
// contact of the others, and marks no process as lost: heartbeats are at most a third of
// a lease apart.
//
// These times count on the store's clock. A store of one process counts them in
// monotonic time, so that a step of the wall clock neither ends nor extends a lease.
type ProcessStore interface {
	// RegisterProcess stores a process with p.Lease from now. If the process is
	// registered already, also as lost, RegisterProcess changes nothing and returns
	// no error.
	RegisterProcess(ctx context.Context, p Process) error

	// RenewProcess extends the process to p.Lease from now, stores its lease and
	// limit, and returns its claims. If the process has no row or is lost, it stores
	// nothing, and Renewed.Registered is false. It must not wait for a lock of a run.
	RenewProcess(ctx context.Context, p Process) (Renewed, error)

	// RemoveProcess removes a process, lost or not. If the process has claims, it
	// returns ErrConflict. A process that is not registered is not an error.
	RemoveProcess(ctx context.Context, processID string) error
}

// WorkStore is the queue. A registered process claims runs, each under a new token.
// Exactly one of FinishRun, RequeueRun, AwaitInput and SweepRuns ends the claim.
//
// A lease is held while the run is running and its token is that of the last claim,
// even if the process has expired: only a transition of the run ends it. A write under
// a lease that is not held is fenced: it returns ErrLeaseLost and stores nothing.
//
// # Unknown outcomes
//
// After an error that is not in the method's contract, a write may have been stored or
// may be stored later. Each write may be repeated. The repeated write settles the
// outcome, because it locks the same row. A read does not settle it.
type WorkStore interface {
	// ClaimRuns claims up to claim.Limit queued runs. The next run is the oldest of the
	// assistant with the fewest running runs, counting the earlier ones of this
	// result. Among several such assistants, the one with the oldest run comes first.
	// A store may consider only a part of the assistants, if each gets its turn. A
	// requeued run keeps its place by id, and in its conversation. A run that is behind
	// another one is not claimed; see TriggerStore.CreateTrigger.
	//
	// A run is not claimed if its assistant has claim.MaxPerAssistant running runs or
	// its key has claim.MaxPerKey. Concurrent calls must not exceed a limit together.
	//
	// Each run must go to exactly one caller. A claim makes the run running, counts an
	// attempt, sets its start time, stores its token and StartedEvent, and reports
	// whether an earlier claim of the run exists (ClaimedRun.Requeued). The first run
	// gets claim.Token, and each following run gets the next number. If claim.RunID is
	// set, only that run may be claimed. ClaimRuns returns ErrLeaseLost if the process
	// is not registered or is lost.
	ClaimRuns(ctx context.Context, claim Claim) ([]ClaimedRun, error)

	// AppendEvents appends a batch to the run's conversation, in order. Sequences
	// continue the run's last one in steps of 1. Ids rise within the conversation and
	// become visible in ascending order: after a reader has seen an id, no lower id
	// may appear.
	//
	// It stores batch.Steps in the same transition, byte for byte. A step that exists
	// without a record is replaced. A step that exists with a record stays.
	//
	// A batch whose number is not higher than the last one stored under this lease is
	// already stored. It is not stored again and is not an error, so a worker may
	// repeat a call whose result it did not receive.
	AppendEvents(ctx context.Context, lease Lease, batch EventBatch) error

	// FinishRun performs the terminal transition, of which each run has exactly one.
	// It stores the outcome (or the recorded stop instead, see Outcome.Under), the
	// trailing events (as AppendEvents does), the messages, Outcome.Event as the
	// run's last event, and the completion time. If the run has a callback URL, it
	// also creates a pending delivery. The result of a completed run is also stored
	// as an assistant message, after the given ones.
	//
	// If the run has ended under the same lease, FinishRun stores nothing and returns
	// the run as it ended. The returned run is without its TaskDefinition.
	FinishRun(ctx context.Context, lease Lease, end Finish) (Run, error)

	// RequeueRun puts a run back in the queue and does not count its attempt. It
	// stores requeue.Events and RequeuedEvent(requeue.Reason). If a stop is recorded,
	// the run ends by that stop instead: the attempt counts, and there is no
	// RequeuedEvent. After an unknown outcome, ErrLeaseLost means that the requeue
	// was stored or that another transition has ended the claim.
	RequeueRun(ctx context.Context, lease Lease, requeue Requeue) (Run, error)

	// SweepRuns marks expired processes as lost (see ProcessStore). Then it ends or
	// requeues up to sweep.Limit runs, each in a transition of its own, and returns
	// the runs that it changed:
	//
	//   - A claim of a lost process, oldest expiry first: the run ends by its recorded
	//     stop, if there is one. Otherwise it is requeued with
	//     RequeuedEvent(RequeueHeartbeat) while attempts remain (Process.MaxAttempts of
	//     the lost process), and then ends with HeartbeatTimeout.
	//   - A run ends with QueueTimeout if it was last queued more than
	//     sweep.MaxQueueTime ago, also behind another one. The sweeping process must be
	//     registered and not expired; otherwise these runs do not change.
	//
	// If a run cannot be changed, the sweep continues with the others. SweepRuns then
	// returns the changed runs together with an error.
	//
	// It also ends or requeues runs whose request for input has expired; see InputStore.
	//
	// If sweep.Audit is set, SweepRuns also looks for unfinished runs that the
	// regular search cannot find.
	SweepRuns(ctx context.Context, sweep Sweep) ([]Run, error)

	// QueueState returns the number of queued, running and waiting runs and the age of the
	// oldest queued run that can be claimed, as of one instant. It must read unfinished
	// runs only.
	QueueState(ctx context.Context) (QueueState, error)
}

// EventStore reads events and signals new ones.
type EventStore interface {
	// Events returns one page of events, ordered by id. It returns ErrNotFound if the
	// conversation does not exist or query.RunID is not one of its runs.
	Events(ctx context.Context, query EventQuery) (EventPage, error)

	// LastEventIDs returns the id of the last event of each conversation.
	// Conversations that do not exist are absent from the map.
	LastEventIDs(ctx context.Context, conversationIDs []int64) (map[int64]int64, error)

	// Watch calls notify after transitions of this process and, as far as the store
	// can detect them, of other processes. It returns nil when ctx ends.
	//
	// Hints may be merged, repeated or lost, so callers must also poll at a low rate.
	// notify must return quickly and must not call a store method. Watch must not
	// call notify concurrently, before the transition is visible to readers, or after
	// Watch has returned.
	Watch(ctx context.Context, notify func(Hint)) error
}

// DeliveryStore stores the deliveries of callbacks. A delivery moves through these
// states:
//
//	pending ──► sending ──► delivered | failed
//	   │           └──────► unknown ──► delivered | failed
//	   └──────────────────► failed | blocked
//
// A process prepares a pending delivery under a short lease. ClaimDelivery is the
// claim that makes the POST happen at most once. A run has at most one open delivery.
// A delivery is open while it is pending or sending.
//
// Run.Callback is the outcome of one delivery of the run: the one with the highest id
// of those that are neither pending nor sending.
type DeliveryStore interface {
	// LeaseDeliveries leases up to claim.Limit deliveries for claim.Lease. It leases
	// only pending deliveries whose DueAt has passed and that have no valid lease. The
	// first one gets claim.Token, and each following one gets the next number.
	//
	// A host gets at most claim.PerHost deliveries, including those in claim.Busy.
	// For a host in claim.Resting, only deliveries with Retry 0 are leased.
	//
	// An assistant gets at most claim.PerAssistant deliveries, including those in
	// claim.BusyAssistants. If only one assistant has more deliveries that could be
	// leased, it gets up to claim.Alone. The last claim.Reserved of claim.Limit
	// deliveries are for assistants that have none in progress.
	//
	// The next delivery goes to the assistant with the fewest deliveries in progress,
	// counting claim.BusyAssistants and the earlier ones of this result. Within the
	// assistant it goes to the host with the fewest, counting claim.Busy and the
	// earlier ones of this assistant in this result. Within the host, the earliest
	// DueAt comes first, then the lowest id. These two also decide between hosts, and
	// between assistants, with the same number.
	//
	// If many deliveries are due, a store may consider only a part of them, if later
	// calls consider all assistants and hosts in turn. It may lease fewer than
	// claim.Limit, but at least one, so that large results do not use much memory.
	LeaseDeliveries(ctx context.Context, claim DeliveryQuery) ([]LeasedDelivery, error)

	// ClaimDelivery moves a pending delivery to sending and records the time of its
	// attempt. It returns ErrLeaseLost unless lease is the delivery's latest lease
	// and has not expired. A repeated call with the same lease returns nil while the
	// delivery is sending and its attempt is younger than 10 s. After any other
	// error the outcome of the claim is unknown, and the caller must not send before
	// a repeated call has returned nil.
	ClaimDelivery(ctx context.Context, lease DeliveryLease) error

	// ReturnDelivery puts a delivery that was not sent back to pending, as if it had
	// never been leased. If a claim under the same lease is still in progress, it must
	// then fail. ReturnDelivery returns ErrLeaseLost if lease is not the
	// delivery's latest lease or an outcome is recorded, and ErrConflict if another
	// delivery of the run is open.
	ReturnDelivery(ctx context.Context, lease DeliveryLease) error

	// FinishDelivery records the outcome of a delivery. From sending or unknown, the
	// outcome is delivered or failed. From pending, before the claim, it is failed or
	// blocked, and the lease must not have expired. The caller must make sure that
	// the outcome fits the state. FinishDelivery returns ErrLeaseLost if the token is
	// not the delivery's latest or if an outcome is already recorded.
	//
	// If end.RetryIn is set, the same transition creates a retry, unless another
	// delivery of the run is open. The retry is a new pending delivery with the same
	// run, URL and host, Retry one higher, created now and due after end.RetryIn.
	FinishDelivery(ctx context.Context, lease DeliveryLease, end DeliveryOutcome) error

	// SweepDeliveries marks up to limit deliveries as unknown that have been sending
	// for longer than after. It returns them.
	SweepDeliveries(ctx context.Context, after time.Duration, limit int) ([]Delivery, error)

	// Delivery returns one delivery.
	Delivery(ctx context.Context, deliveryID int64) (Delivery, error)

	// Deliveries lists the deliveries of a run, oldest first.
	Deliveries(ctx context.Context, runID int64) ([]Delivery, error)

	// FindDeliveries lists the deliveries of all runs that match query, newest first.
	FindDeliveries(ctx context.Context, query DeliveryFilter) ([]Delivery, error)

	// CountDeliveries counts the newest deliveries that match query, at most limit, by
	// host and state. Hosts are in ascending byte order, and the states of a host too.
	// query.Page does not apply.
	CountDeliveries(ctx context.Context, query DeliveryFilter, limit int) ([]DeliveryCount, error)

	// Redeliver creates another pending delivery of the run's callback, to the same
	// URL and host, due now, with Retry 0. If the run's open delivery is a pending
	// retry (Retry above 0) without a valid lease, that delivery becomes the
	// redelivery instead: it is due now, and its Retry is 0. If any other delivery of
	// the run is open, Redeliver returns ErrConflict.
	Redeliver(ctx context.Context, deliveryID int64) (Delivery, error)
}
