package webtrigger

import (
	"context"
	"time"
)

// Store is the persistence driver behind a [Service]: it stores API keys,
// triggers, runs, events and deliveries. store/memstore is the reference
// implementation. Every store must pass the whole suite of store/storetest.
//
// # Who may implement it
//
// Anyone may. Most hosts use store/bunstore or store/memstore, or wrap one of them.
// Methods may be added in minor versions. Embed [UnimplementedStore], so that your
// store then still compiles; a new method returns [errors.ErrUnsupported] until you
// implement it. The changelog names each new method and what works without it.
// Methods are not removed or changed within a major version.
//
// # What a store may rely on
//
// Service validates before it calls: ids are well-formed, texts are valid UTF-8
// without NUL, JSON is valid and must be stored byte for byte, limits are
// positive. A store therefore does no validation and defines no user-visible
// text. All such text comes from the caller or from [Outcome] and its helper
// functions.
//
// # What a Service relies on
//
//   - One method is one atomic transition: all of it is stored, or none. No
//     transaction appears in a signature. A store may gather calls that arrive
//     together into one commit (group commit) as long as each caller waits for
//     its own result.
//   - All methods are safe for concurrent use. Arguments are not kept, results
//     are copies: neither side sees the other's later changes.
//   - Times are the store's: one clock for leases, expiry and every stamp,
//     whatever the callers' clocks say. Results carry UTC, cut to microseconds;
//     the zero time means "not yet" or "never".
//   - Ids are positive and rise with creation.
//   - An absent thing is [ErrNotFound]; a list below an absent thing is empty. A
//     store that cannot answer now returns an error that wraps [ErrUnavailable];
//     the caller then does not know whether a write took place.
//   - A call whose context has ended before it started writes nothing and
//     returns an error that wraps the context's.
//
// # Lock order
//
// A transition that touches several rows takes them in one order that the store
// documents, beginning with the lease, each kind by ascending id.
type Store interface {
	ChannelStore
	KeyStore
	TaskDefinitionStore
	TriggerStore
	RunStore
	WorkStore
	EventStore
	DeliveryStore
	RetentionStore

	// Ping reports whether the store answers.
	Ping(ctx context.Context) error
}

// ChannelStore holds the channel settings of each assistant, and its signing
// secrets apart from them: neither setter touches what the other one sets.
type ChannelStore interface {
	// Channel returns the settings of the assistant; one that nobody has set is
	// the zero settings under its id, not ErrNotFound.
	Channel(ctx context.Context, assistantID string) (Channel, error)

	// SetChannel stores the settings, which act from the next accept on.
	SetChannel(ctx context.Context, settings Channel) error

	// SigningSecrets returns the assistant's own signing secrets in the order in
	// which they were set; none when nobody has set any, not ErrNotFound.
	SigningSecrets(ctx context.Context, assistantID string) ([]SigningSecret, error)

	// SetSigningSecrets replaces the assistant's own signing secrets, also by
	// none. A store keeps what SigningSecret.Reveal says, and writes it to no log.
	SetSigningSecrets(ctx context.Context, assistantID string, secrets []SigningSecret) error

	// Assistants lists the ids that have settings, signing secrets (once set) or
	// keys, in ascending byte order, those after the given id ("" starts).
	Assistants(ctx context.Context, after string, limit int) ([]string, error)
}

// KeyStore holds API keys. It sees their hashes only, and never returns one.
type KeyStore interface {
	// CreateKey stores a key and returns it with its id and creation time.
	// ErrConflict when the hash is taken.
	CreateKey(ctx context.Context, key NewKey) (Key, error)

	// Key returns one key, also a revoked or expired one.
	Key(ctx context.Context, keyID int64) (Key, error)

	// Keys lists the keys of an assistant, newest first.
	Keys(ctx context.Context, assistantID string, page Page) ([]Key, error)

	// RevokeKey revokes the key from now on and returns it. A key that is
	// revoked already keeps its time.
	RevokeKey(ctx context.Context, keyID int64) (Key, error)

	// ReplaceKey stores a key in the place of another one, in one transition: the
	// old key expires in grace, unless it does so sooner. ErrConflict when it is
	// revoked or expired already, or the new hash is taken. The answer is the new
	// key.
	ReplaceKey(ctx context.Context, keyID int64, key NewKey, grace time.Duration) (Key, error)

	// TouchKey stamps the key as used now, unless it has a stamp that is younger
	// than precision. An absent key is no error.
	TouchKey(ctx context.Context, keyID int64, precision time.Duration) error

	// Authenticate reads, at one instant, what a request with this key may see:
	// the key, its assistant's settings and, when triggerID is not 0, the first
	// run of that conversation (nil when there is none or it is another
	// assistant's). An unknown, revoked or expired key is ErrNotFound. It sees
	// every revocation that had returned, in any process, before it was called.
	Authenticate(ctx context.Context, hash KeyHash, triggerID int64) (Grant, error)
}

// TaskDefinitionStore holds task definitions.
type TaskDefinitionStore interface {
	// CreateTaskDefinition stores a definition and returns it with id and times.
	CreateTaskDefinition(ctx context.Context, task TaskDefinition) (TaskDefinition, error)

	// Task returns one definition, also an inactive one.
	TaskDefinition(ctx context.Context, taskID int64) (TaskDefinition, error)

	// Tasks lists the definitions of an assistant, newest first.
	TaskDefinitions(ctx context.Context, assistantID string, page Page) ([]TaskDefinition, error)

	// UpdateTaskDefinition replaces what a definition says, by its id. Assistant and
	// creation time stay. Runs that were accepted keep their copy.
	UpdateTaskDefinition(ctx context.Context, task TaskDefinition) (TaskDefinition, error)

	// DeleteTaskDefinition removes a definition. Runs that were accepted keep their copy.
	DeleteTaskDefinition(ctx context.Context, taskID int64) error
}

// TriggerStore is what accepting a trigger needs. A store on a database may
// offer one that lives inside a transaction of the host (see
// [Service.TriggerVia]): its CreateTrigger never takes, and what it wrote
// exists when the host commits.
type TriggerStore interface {
	// Channel and Task are those of ChannelStore and TaskDefinitionStore.
	Channel(ctx context.Context, assistantID string) (Channel, error)
	TaskDefinition(ctx context.Context, taskID int64) (TaskDefinition, error)

	// CreateTrigger stores the conversation, its message, the run and the run's
	// first event (QueuedEvent, sequence 1).
	//
	// With t.Claim it also takes the run in the same transition, as ClaimRuns
	// would, and returns the lease; a store may decline, the run is then queued.
	//
	// With t.ConversationID the run joins that conversation, which keeps its
	// subject and metadata (the run's own input has neither); ErrNotFound when it
	// is not the assistant's.
	//
	// With t.Idempotency, a live record of the same assistant and key decides:
	// the same body hash returns the first trigger with Replayed set and stores
	// nothing, another is ErrIdempotencyKeyReused. Of any number of simultaneous
	// calls one stores.
	//
	// With t.MaxQueued, a run that is not taken is stored only while fewer runs of
	// the assistant wait that came with a MaxQueued too; ErrQueueFull otherwise, and
	// nothing is stored. A replay is no new run. However many calls come at once,
	// they do not pass the bound together; only in a transaction of the host, which
	// nobody shall wait for, what others store meanwhile may be overlooked.
	CreateTrigger(ctx context.Context, t NewTrigger) (CreatedTrigger, error)

	// Replay looks up what CreateTrigger would replay: the run that the live
	// record of this assistant and key belongs to, as it is now.
	// ErrIdempotencyKeyReused when the body hash differs, ErrNotFound when there
	// is no live record.
	Replay(ctx context.Context, assistantID string, use Idempotency) (Run, error)
}

// RunStore reads runs and records the wish to stop one.
type RunStore interface {
	RunByID(ctx context.Context, runID int64) (Run, error)

	// RunByKey finds a run by its run_key.
	RunByKey(ctx context.Context, runKey string) (Run, error)

	// Runs lists runs, newest first.
	Runs(ctx context.Context, query RunQuery) ([]Run, error)

	// RunInput returns what the caller sent, byte for byte.
	RunInput(ctx context.Context, runID int64) (RunInput, error)

	Conversation(ctx context.Context, conversationID int64) (Conversation, error)

	// Messages lists the messages of a conversation in the order they were
	// stored, those after the given id (0 starts). An absent conversation has
	// none.
	Messages(ctx context.Context, conversationID, after int64, limit int) ([]Message, error)

	// RequestStop records that a run is to end as stop says and returns the run
	// as it is then.
	//
	//   - An ended run is returned unchanged.
	//   - A queued run ends at once: CancelRequestedEvent when stop cancels, then
	//     the terminal transition (see WorkStore.FinishRun).
	//   - A running run gets stop recorded, with a CancelRequestedEvent when stop
	//     cancels; from then on stop decides how it ends, whatever its worker
	//     reports. The first stop recorded stays; a later one changes nothing and
	//     is no error.
	//
	// With lease, the stop is its worker's own word (a deadline): ErrLeaseLost
	// unless the run is running under that lease, also when it has ended.
	RequestStop(ctx context.Context, runID int64, stop Stop, lease *Lease) (Run, error)
}

// WorkStore is the queue: runs are taken under a lease, kept by heartbeat and
// left by exactly one of FinishRun, RequeueRun and SweepRuns.
//
// A lease is held while the run is running, its token is the one given by the
// last taking, and less than the lease's duration has passed on the store's
// clock since it was taken or renewed. Anything else is lost, swept or not:
// every write under a lost lease is ErrLeaseLost and stores nothing.
type WorkStore interface {
	// ClaimRuns takes up to claim.Limit queued runs, oldest first (a requeued run
	// keeps its place by id), each exactly once among all callers. Taking makes
	// the run running, counts an attempt, stamps its start, draws a new token
	// and stores StartedEvent. With claim.RunID it takes that run or none.
	ClaimRuns(ctx context.Context, claim Claim) ([]ClaimedRun, error)

	// RenewLeases lets every lease still held last for d from now and tells, in
	// the order of the leases, which are held and what stop is recorded.
	RenewLeases(ctx context.Context, leases []Lease, d time.Duration) ([]Renewal, error)

	// AppendEvents appends a batch to the run's conversation, in order. Sequences
	// follow the run's last one by 1; ids rise within the conversation and become
	// visible in their order: a reader that saw one will never see a lower one
	// appear. A batch whose number is not above the last one stored under this
	// lease stands already and is not stored again, so that a worker may repeat a
	// call whose answer it did not get.
	AppendEvents(ctx context.Context, lease Lease, batch EventBatch) error

	// FinishRun is the terminal transition, exactly one per run: the outcome (or
	// the recorded stop in its place, see Outcome.Under), the trailing events (as
	// AppendEvents), the messages, Outcome.Event as the run's last event, the completion time
	// and, when the run has a callback URL, a pending delivery. A completed run's
	// result also becomes an assistant message after the given ones.
	FinishRun(ctx context.Context, lease Lease, end Finish) (Run, error)

	// RequeueRun gives a run back untouched by its attempt: the trailing events
	// and RequeuedEvent(RequeueShutdown) are stored, the attempt is not counted,
	// the run is queued. With a stop recorded the run ends by it instead: the
	// attempt stays counted and there is no RequeuedEvent.
	RequeueRun(ctx context.Context, lease Lease, batch EventBatch) (Run, error)

	// SweepRuns ends or requeues, up to sweep.Limit runs, oldest expiry first:
	// runs whose lease has expired (by the recorded stop; else requeued with
	// RequeuedEvent(RequeueHeartbeat) while attempts remain; else HeartbeatTimeout)
	// and queued runs that wait longer than sweep.MaxQueueTime since they were
	// last queued (QueueTimeout). With sweep.Audit it also looks for unfinished
	// runs that the quick look cannot find. It returns the runs it changed.
	SweepRuns(ctx context.Context, sweep Sweep) ([]Run, error)

	// QueueState counts the unfinished runs by their state and tells how long the
	// one waits that was queued first, all at one instant. It looks at unfinished
	// runs only.
	QueueState(ctx context.Context) (QueueState, error)
}

// EventStore reads events and tells when there are more.
type EventStore interface {
	// Events returns one page in the order of ids. ErrNotFound when the
	// conversation does not exist, or query.RunID is not one of its runs.
	Events(ctx context.Context, query EventQuery) (EventPage, error)

	// LastEventIDs returns the id of the last event of each conversation that
	// exists; the rest are absent from the map.
	LastEventIDs(ctx context.Context, conversationIDs []int64) (map[int64]int64, error)

	// Watch calls notify after transitions, of this and as far as the store can
	// tell of other processes, until ctx ends; it then returns nil. Hints may be
	// merged, repeated or lost: callers look for themselves and poll slowly
	// besides. notify returns quickly and may call no store method; it is called
	// one call at a time, never after Watch has returned, and when the transition
	// is visible to readers.
	Watch(ctx context.Context, notify func(Hint)) error
}

// DeliveryStore is the outbox of callbacks. A delivery moves
//
//	pending ──► sending ──► delivered | failed
//	   │           └──────► unknown ──► delivered | failed
//	   └──────────────────► failed | blocked
//
// A pending one is prepared under a short lease; ClaimDelivery is the claim
// that makes the POST happen at most once. A run has at most one delivery that
// is open, which is pending or sending.
//
// Run.Callback mirrors the outcome of the run's last delivery that has one:
// every transition that gives a delivery a state other than pending and sending
// stores it on the run too, unless a delivery with a higher id is mirrored there.
type DeliveryStore interface {
	// LeaseDeliveries hands out up to claim.Limit pending deliveries that nobody
	// holds and whose DueAt has come, each under a new token for claim.Lease.
	//
	// A host gets no more than claim.PerHost, those of claim.Busy counted in; of a
	// host in claim.Resting only deliveries with Retry 0 are handed out. First
	// come those to whose host the fewest are then under way (those of claim.Busy
	// and those before it in this answer), of these the one with the earliest
	// DueAt, then the lowest id. Deliveries to one host so come oldest first.
	LeaseDeliveries(ctx context.Context, claim DeliveryQuery) ([]LeasedDelivery, error)

	// ClaimDelivery moves a pending delivery to sending and stamps its attempt.
	// ErrLeaseLost unless the lease is the delivery's last and has not expired.
	// After any other error the caller does not know, and does not send.
	ClaimDelivery(ctx context.Context, lease DeliveryLease) error

	// FinishDelivery records how a delivery ended: from sending or unknown
	// (delivered, failed), or from pending before it began (failed, blocked; the
	// lease must not have expired). ErrLeaseLost when the token is not the
	// delivery's last or an outcome is recorded already. That the outcome fits the
	// state is the caller's duty.
	//
	// With end.RetryIn the same transition owes a retry, unless another delivery
	// of the run is open: a new pending delivery like this one (run, URL, host),
	// with Retry one higher, created now and due in end.RetryIn.
	FinishDelivery(ctx context.Context, lease DeliveryLease, end DeliveryOutcome) error

	// SweepDeliveries marks up to limit deliveries unknown that have been sending
	// for longer than after, and returns them.
	SweepDeliveries(ctx context.Context, after time.Duration, limit int) ([]Delivery, error)

	// Delivery returns one delivery.
	Delivery(ctx context.Context, deliveryID int64) (Delivery, error)

	// Deliveries lists the deliveries of a run, oldest first.
	Deliveries(ctx context.Context, runID int64) ([]Delivery, error)

	// Redeliver owes the run's callback once more: a new pending delivery to the
	// same URL and host, due now, with Retry 0. Where the run's open delivery is a
	// retry (Retry above 0) that is pending and that nobody holds, that one becomes
	// it instead, due now and with Retry 0; with any other open delivery it is
	// ErrConflict.
	Redeliver(ctx context.Context, deliveryID int64) (Delivery, error)
}

// RetentionStore forgets what has ended. What it forgets is absent from then on,
// and no id of it is given again.
type RetentionStore interface {
	// Purge forgets what is older than its age among the next runs in the order of
	// their ids, so that a pass of calls looks at each run once. Older means that
	// the run ended at least that long ago.
	//
	// Of a run that is older than purge.Keep.Events it forgets the events, which
	// EventPage.PurgedTo tells readers of; the rest of the run stays. A trigger
	// goes whole, with its runs, messages, events, deliveries and idempotency
	// records, once each of its runs is older than the age of its state and none of
	// its deliveries is pending or sending.
	Purge(ctx context.Context, purge Purge) (Purged, error)

	// EraseTrigger forgets a trigger whole, whatever its age, deliveries that are
	// owed or under way included. ErrConflict while one of its runs has not ended.
	EraseTrigger(ctx context.Context, conversationID int64) error
}
