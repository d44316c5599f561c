package webtrigger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Run is one execution of an assistant over a conversation. For its statuses and
// transitions, see docs/state-machine.md. A summary of a run has neither Result nor
// TaskDefinition.
type Run struct {
	ID             int64
	Key            string // run_key: a UUID that receivers can use to deduplicate callbacks
	ConversationID int64  // the trigger_id if the run started the conversation
	Continues      bool   // the run joined a conversation that an earlier run started
	Behind         bool   // queued behind an earlier run of its conversation: it cannot be claimed yet

	// ConversationKey is the key of the conversation; "" for none.
	ConversationKey string

	AssistantID  string
	KeyID        int64 // the API key of the caller; 0 for a Go call
	Status       RunStatus
	StatusDetail string // "" is null on the wire
	ErrorMessage string // "" is null on the wire
	Result       string // set only if Status is completed
	Usage        *Usage // nil if not reported

	TaskDefinitionID int64           // 0 if the trigger named none
	TaskDefinition   *TaskDefinition // the run's own copy; nil if the trigger named none

	BaseURL     string // base of StatusURL, StreamURL and EventsURL, in stored form
	CallbackURL string // "" if there is no callback
	TraceParent string // W3C traceparent; empty if the request had none
	RequestID   string // X-Request-Id of the trigger request, an attribute of the run's log records; empty if it was a Go call without one
	Attempts    int    // number of attempts, including the current one
	CreatedAt   time.Time
	StartedAt   time.Time // start of the latest attempt, kept when the run is requeued; zero if never claimed
	CompletedAt time.Time // zero if the run has not ended
	Callback    CallbackOutcome
}

// logFields returns the attributes that identify the run in the log of every process.
func (r *Run) logFields() []any {
	fields := []any{"run_id", r.ID, "run_key", r.Key}
	if r.RequestID != "" {
		fields = append(fields, "request_id", r.RequestID)
	}
	return fields
}

// RunStatus is the status of a run.
type RunStatus string

// Statuses of a run. The last four are terminal.
const (
	RunQueued    RunStatus = "queued"
	RunRunning   RunStatus = "running"
	RunWaiting   RunStatus = "waiting" // for the answer of a person; see [AskInput]
	RunCompleted RunStatus = "completed"
	RunFailed    RunStatus = "failed"
	RunCancelled RunStatus = "cancelled"
	RunTimedOut  RunStatus = "timed_out"
)

// Terminal reports whether a run with this status has ended. A terminal status is
// final.
func (s RunStatus) Terminal() bool {
	switch s {
	case RunCompleted, RunFailed, RunCancelled, RunTimedOut:
		return true
	}
	return false
}

// polled returns the status that polling clients get: processing, completed or
// failed.
func (s RunStatus) polled() string {
	switch {
	case !s.Terminal():
		return "processing"
	case s == RunCompleted:
		return "completed"
	}
	return "failed"
}

// Usage is the number of tokens that the models of a run consumed.
type Usage struct {
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
}

// Outcome is the outcome of a run.
type Outcome struct {
	Status       RunStatus // terminal
	StatusDetail string
	ErrorMessage string
	Result       string // completed only
	Usage        *Usage // kept for every status
}

// HeartbeatTimeout returns the outcome of a run whose worker stopped renewing its
// lease.
func HeartbeatTimeout() Outcome {
	return Outcome{Status: RunTimedOut, StatusDetail: "heartbeat timeout",
		ErrorMessage: "The run was given up because its worker stopped sending heartbeats."}
}

// QueueTimeout returns the outcome of a run that exceeded [Options.MaxQueueTime].
func QueueTimeout() Outcome {
	return Outcome{Status: RunTimedOut, StatusDetail: "queue timeout",
		ErrorMessage: "The run was given up because it waited in the queue for too long."}
}

// InputTimeout returns the outcome of a run whose request for input expired without an
// answer.
func InputTimeout() Outcome {
	return Outcome{Status: RunTimedOut, StatusDetail: "input timeout",
		ErrorMessage: "The run was given up because its request for input was not answered in time."}
}

// Under returns the outcome that a store must store: o if stop is nil, otherwise the
// outcome of stop. Usage is kept.
func (o Outcome) Under(stop *Stop) Outcome {
	if stop == nil {
		return o
	}
	return Outcome{Status: stop.Status, StatusDetail: stop.StatusDetail, ErrorMessage: stop.ErrorMessage, Usage: o.Usage}
}

// Event returns the terminal event of a run with this outcome.
func (o Outcome) Event() NewEvent {
	return NewEvent{Type: EventType("run_" + string(o.Status)), Payload: mustJSON(struct {
		Status       RunStatus `json:"status"`
		StatusDetail *string   `json:"status_detail"`
		ErrorMessage *string   `json:"error_message"`
	}{o.Status, wire.NullableString(o.StatusDetail), wire.NullableString(o.ErrorMessage)})}
}

// Stop is a recorded request that a run ends before its Runner has returned. Once
// recorded, it decides the outcome.
type Stop struct {
	Status       RunStatus // RunCancelled or RunTimedOut
	StatusDetail string
	ErrorMessage string
}

// CancelStop returns the stop of a cancellation. The reason may be empty.
func CancelStop(reason string) Stop {
	return Stop{Status: RunCancelled, StatusDetail: reason}
}

// InterruptStop returns the stop of a run that a later run of its conversation
// interrupts; see [BusyInterrupt].
func InterruptStop(byRunID int64) Stop {
	return CancelStop("superseded by run " + strconv.FormatInt(byRunID, 10))
}

// DeadlineStop returns the stop of a run that exceeded [Options.RunTimeout].
func DeadlineStop() Stop {
	return Stop{Status: RunTimedOut, StatusDetail: "deadline exceeded",
		ErrorMessage: "The run was stopped because it took longer than allowed."}
}

// Conversation is what one trigger starts. Its id is the trigger_id.
type Conversation struct {
	ID          int64
	AssistantID string
	Key         string          // the caller's conversation_key; "" for none
	Subject     string          // of the trigger that started the conversation
	Metadata    json.RawMessage // of the same trigger, as sent; nil for none
	CreatedAt   time.Time
}

// Role is the author of a message.
type Role string

// Roles of a message.
const (
	RoleUser      Role = "user"
	RoleAssistant Role = "assistant"
	RoleTool      Role = "tool"
)

// Message is one entry of a conversation.
type Message struct {
	ID             int64 // rises within the conversation
	ConversationID int64
	RunID          int64 // the run that the message started or that wrote it
	Role           Role
	Content        string
	ToolCalls      []ToolCall // of an assistant message
	ToolCallID     string     // of a tool message: the id of the call that it answers
	CreatedAt      time.Time
}

// NewMessage is a message that the store creates.
type NewMessage struct {
	Role       Role
	Content    string
	ToolCalls  []ToolCall // of an assistant message
	ToolCallID string     // of a tool message: the id of the call that it answers
}

// Size returns the number of bytes of the message's texts: what counts toward
// MaxResultMessagesBytes and [HistoryOptions.MaxBytes].
func (m *NewMessage) Size() int {
	n := len(m.Content) + len(m.ToolCallID)
	for _, c := range m.ToolCalls {
		n += len(c.ID) + len(c.Name) + len(c.Arguments)
	}
	return n
}

// ToolCall is a tool call that a model requested.
type ToolCall struct {
	ID        string          `json:"id"` // unique within the run
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
}

// RunByID returns one run. It returns ErrNotFound if the run does not exist.
func (s *Service) RunByID(ctx context.Context, runID int64) (Run, error) {
	return s.store.RunByID(ctx, runID)
}

// RunSummary returns one run without its result and its task definition. Use it if you
// need only the state of the run. It returns ErrNotFound if the run does not exist.
func (s *Service) RunSummary(ctx context.Context, runID int64) (Run, error) {
	return s.store.RunSummary(ctx, runID)
}

// Owner returns the assistant and the conversation that a resource belongs to. A
// handler of the host can ask for the permission before it reads the resource. It
// returns ErrNotFound if the resource does not exist.
func (s *Service) Owner(ctx context.Context, kind ResourceKind, id int64) (Owner, error) {
	return s.store.Owner(ctx, kind, id)
}

// Runs lists the runs that match query, without their results and task definitions.
// RunByID returns these. If query has an invalid assistant id or status, the list is
// empty.
func (s *Service) Runs(ctx context.Context, query RunQuery) ([]Run, error) {
	if !query.valid() {
		return nil, nil
	}
	query.Page = query.Page.withDefaults()
	return s.store.Runs(ctx, query)
}

func (q *RunQuery) valid() bool {
	return (q.AssistantID == "" || ValidAssistantID(q.AssistantID)) &&
		!slices.ContainsFunc(q.Statuses, func(status RunStatus) bool { return !status.known() })
}

// CountRuns counts the runs that match query by status, at most limit of each. If limit is
// zero, it is MaxCount. Maximum: MaxCount. A status without runs is absent.
func (s *Service) CountRuns(ctx context.Context, query RunQuery, limit int) (map[RunStatus]int, error) {
	if !query.valid() {
		return nil, nil
	}
	if limit <= 0 || limit > MaxCount {
		limit = MaxCount
	}
	return s.store.CountRuns(ctx, query, limit)
}

// RunLabels returns the texts by which people recognize runs in a list, by run id.
func (s *Service) RunLabels(ctx context.Context, runIDs []int64) (map[int64]RunLabels, error) {
	return s.store.RunLabels(ctx, runIDs)
}

// RunInput returns the caller's input of a run, byte for byte. It returns ErrNotFound
// if the run does not exist.
func (s *Service) RunInput(ctx context.Context, runID int64) (RunInput, error) {
	return s.store.RunInput(ctx, runID)
}

// Conversation returns one conversation; its id is the trigger_id. It returns
// ErrNotFound if the conversation does not exist.
func (s *Service) Conversation(ctx context.Context, conversationID int64) (Conversation, error) {
	return s.store.Conversation(ctx, conversationID)
}

// Conversations lists the conversations that match query, newest first, each with its
// newest run and without its metadata. If query has an invalid assistant id, the list is
// empty.
func (s *Service) Conversations(ctx context.Context, query ConversationQuery) ([]ConversationSummary, error) {
	if query.AssistantID != "" && !ValidAssistantID(query.AssistantID) {
		return nil, nil
	}
	query.Page = query.Page.withDefaults()
	return s.store.Conversations(ctx, query)
}

// Messages lists the messages of a conversation in the order in which they were
// stored. If query.Limit is zero, it is DefaultPageSize. Maximum: MaxPageSize. If the
// conversation does not exist, the list is empty.
func (s *Service) Messages(ctx context.Context, query MessageQuery) ([]Message, error) {
	query.Limit = Page{Limit: query.Limit}.withDefaults().Limit
	return s.store.Messages(ctx, query)
}

// known reports whether s is one of the seven statuses.
func (s RunStatus) known() bool {
	return s == RunQueued || s == RunRunning || s == RunWaiting || s.Terminal()
}

// rests reports whether a run with this status has ended or waits for input: what a
// request with Prefer: wait waits for.
func (s RunStatus) rests() bool { return s == RunWaiting || s.Terminal() }

// idle reports whether a run with this status has not ended and is not executed, so that a
// stop ends it immediately.
func (s RunStatus) idle() bool { return s == RunQueued || s == RunWaiting }

// DecodeResult decodes the JSON result of a completed run into v, as encoding/json
// does. v must be a pointer. Numbers in an any become json.Number, so that they keep
// all digits. It returns an error if the run has not completed or its result is not
// JSON. The output type json of a task definition ensures a JSON result.
func (r *Run) DecodeResult(v any) error {
	if r.Status != RunCompleted {
		return fmt.Errorf("webtrigger: decode result: the run is %s", r.Status)
	}
	if !json.Valid([]byte(r.Result)) { // a Decoder would not look at what follows the value
		return errors.New("webtrigger: decode result: result is not JSON")
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(r.Result)))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("webtrigger: decode result: %w", err)
	}
	return nil
}

// QueueState is the number and age of the unfinished runs of a store, as of one
// instant, for all processes.
type QueueState struct {
	Queued  int // queued runs, including those that another engine executes
	Running int // running runs, including those with an expired lease that are not swept yet
	Waiting int // runs that wait for the answer of a person

	// OldestAge is the age of the oldest queued run that can be claimed, by the store's
	// clock. Runs behind others of their conversation do not count. A requeued run counts
	// from when it was requeued. Zero means that no run can be claimed.
	OldestAge time.Duration
}

// QueueState returns the state of the queue, for metrics and alerts. An age that
// grows means that there are too few workers. The cost grows with the number of
// unfinished runs, not with the number of ended ones. You may call it every few
// seconds.
func (s *Service) QueueState(ctx context.Context) (QueueState, error) {
	return s.store.QueueState(ctx)
}

// MaxCancelReasonRunes is the maximum length of a cancellation reason, in Unicode
// code points.
const MaxCancelReasonRunes = 255

// CancelRun requests the cancellation of a run and returns the resulting run. The
// reason becomes its status_detail. A blank reason counts as none.
//
//   - A queued run is cancelled immediately and never starts. A waiting run is
//     cancelled immediately too.
//   - A running run is still running when CancelRun returns. Its Runner's context
//     ends with ErrCancelled. The run then ends as cancelled, regardless of what the
//     Runner returns. A stop that was recorded earlier stays in effect.
//   - An ended run is returned unchanged.
//
// A second cancellation is not an error and keeps the first reason. CancelRun returns
// ErrNotFound if the run does not exist, and a [RequestError] if the reason is longer
// than [MaxCancelReasonRunes] or is invalid.
func (s *Service) CancelRun(ctx context.Context, runID int64, reason string) (Run, error) {
	var f faults
	switch {
	case !wire.CleanText(reason):
		f.add("/reason", "must be valid UTF-8 without NUL characters")
	case utf8.RuneCountInString(reason) > MaxCancelReasonRunes:
		f.add("/reason", "must have at most 255 characters")
	case blank(reason):
		reason = ""
	}
	if err := f.err(); err != nil {
		return Run{}, err
	}
	return s.cancelRun(audited(ctx, "run.cancel", objectOf("run", runID), map[string]any{"reason": wire.NullableString(reason)}), runID, reason)
}

// RepeatRun creates a trigger with the input of an ended run: its message, subject,
// context, metadata and callback URL, and its task definition as it is now. The new run has
// no API key. If the conversation of the run has a key, the new run continues it; else it
// starts a conversation. RepeatRun returns ErrNotFound if the run does not exist,
// ErrConflict if it has not ended, and the errors of [Service.Trigger].
func (s *Service) RepeatRun(ctx context.Context, runID int64) (Run, error) {
	run, err := s.store.RunSummary(ctx, runID)
	if err != nil {
		return Run{}, fmt.Errorf("repeat run: %w", err)
	}
	if !run.Status.Terminal() {
		return Run{}, fmt.Errorf("repeat run: the run has not ended: %w", ErrConflict)
	}
	input, err := s.store.RunInput(ctx, runID)
	if err != nil {
		return Run{}, fmt.Errorf("repeat run: %w", err)
	}
	channel, err := s.store.Channel(ctx, run.AssistantID)
	if err != nil {
		return Run{}, fmt.Errorf("read channel: %w", err)
	}
	if !channel.Enabled {
		return Run{}, ErrChannelDisabled
	}
	req := TriggerRequest{Message: input.Message, Subject: input.Subject, Context: input.Context, Metadata: input.Metadata,
		TaskDefinitionID: run.TaskDefinitionID, CallbackURL: run.CallbackURL, ConversationKey: run.ConversationKey}
	t, err := s.prepare(ctx, s.store, caller{channel: channel, base: storedBases(run.BaseURL)}, req, checkValues(req))
	if err != nil {
		return Run{}, err
	}
	created, err := s.accept(audited(ctx, "run.repeat", "run/", map[string]any{"run_id": runID}), t)
	if err == nil {
		s.opts.Hooks.triggered(ctx, created)
	}
	return created.Run, err
}

// cancelRun requests the cancellation of a run. It is in the audit log if the context
// has an entry: a cancellation by an API key is among the events of the run only.
func (s *Service) cancelRun(ctx context.Context, runID int64, reason string) (Run, error) {
	var before Run
	if s.opts.Hooks.Ended != nil {
		var err error
		if before, err = s.store.RunSummary(ctx, runID); err != nil {
			return Run{}, fmt.Errorf("cancel run: %w", err)
		}
	}
	run, err := s.store.RequestStop(ctx, runID, CancelStop(reason), nil)
	if err != nil {
		return Run{}, fmt.Errorf("cancel run: %w", err)
	}
	if before.Status.idle() && run.Status == RunCancelled && run.Attempts == before.Attempts {
		s.opts.Hooks.ended(ctx, run) // otherwise its worker or a sweep has ended it
	}
	s.log.With(run.logFields()...).InfoContext(ctx, "run cancel requested", "assistant_id", run.AssistantID, "status", run.Status)
	return run, nil
}

// adviceAge is how long a run must be queued before the lack of workers is logged.
const adviceAge = 30 * time.Second

// checkWorkers logs that no process executes runs. This is the case if this process
// does not execute runs, no run is running, and the oldest has been queued for
// adviceAge. It reads the queue at most once in that time, and not at its first call.
// It reads in the background, so that the calling request does not wait.
func (s *Service) checkWorkers() {
	if s.worker.isWorking() {
		return
	}
	now, last := time.Now().UnixNano(), s.advice.looked.Load()
	if last != 0 && now-last < int64(adviceAge) || !s.advice.looked.CompareAndSwap(last, now) || last == 0 {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
		defer cancel()
		queue, err := s.store.QueueState(ctx)
		if err != nil || queue.Running > 0 || queue.OldestAge < adviceAge {
			return
		}
		s.advice.worker.Do(func() {
			s.log.Warn("no process executes runs", "queued", queue.Queued, "oldest_age", queue.OldestAge,
				"remedy", "call Service.Serve, Service.Work or Service.Execute in a process that uses this store")
		})
	}()
}
