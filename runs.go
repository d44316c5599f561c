package webtrigger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Run is one execution of an assistant over a conversation. Its states and what
// moves it between them are drawn in docs/state-machine.md.
type Run struct {
	ID             int64
	Key            string // run_key: a UUID, also the id under which receivers deduplicate callbacks
	ConversationID int64  // the trigger_id, when the run started the conversation
	AssistantID    string
	KeyID          int64 // the API key that triggered it; 0: a Go call
	Status         RunStatus
	StatusDetail   string // "" is null
	ErrorMessage   string // "" is null
	Result         string // meaningful when completed
	Usage          *Usage // nil: not reported
	TaskDefinition *TaskDefinition
	BaseURL        string // on which StatusURL, StreamURL and EventsURL are built, as stored
	CallbackURL    string // "": none
	TraceParent    string // "": none
	RequestID      string // X-Request-Id of the request that triggered it, under which its log lines are found; "": none
	Attempts       int    // attempts used, the current one included
	CreatedAt      time.Time
	StartedAt      time.Time // of the latest attempt, also while requeued; zero: never taken
	CompletedAt    time.Time // zero: not ended
	Callback       CallbackOutcome
}

// logFields name the run in the log, whichever process it writes from.
func (r *Run) logFields() []any {
	fields := []any{"run_id", r.ID, "run_key", r.Key}
	if r.RequestID != "" {
		fields = append(fields, "request_id", r.RequestID)
	}
	return fields
}

// RunStatus is where a run stands.
type RunStatus string

// The states of a run. The last four are terminal.
const (
	RunQueued    RunStatus = "queued"
	RunRunning   RunStatus = "running"
	RunCompleted RunStatus = "completed"
	RunFailed    RunStatus = "failed"
	RunCancelled RunStatus = "cancelled"
	RunTimedOut  RunStatus = "timed_out"
)

// Terminal reports whether a run in this state has ended. Its state is final.
func (s RunStatus) Terminal() bool {
	switch s {
	case RunCompleted, RunFailed, RunCancelled, RunTimedOut:
		return true
	}
	return false
}

// polled is the one of three words that a polling client sees.
func (s RunStatus) polled() string {
	switch {
	case !s.Terminal():
		return "processing"
	case s == RunCompleted:
		return "completed"
	}
	return "failed"
}

// Usage counts what the models of a run consumed, in tokens.
type Usage struct {
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
}

// Outcome is how a run ends.
type Outcome struct {
	Status       RunStatus // terminal
	StatusDetail string
	ErrorMessage string
	Result       string // completed only
	Usage        *Usage // kept whatever the status
}

// HeartbeatTimeout is the outcome of a run whose worker stopped renewing its
// lease.
func HeartbeatTimeout() Outcome {
	return Outcome{Status: RunTimedOut, StatusDetail: "heartbeat timeout",
		ErrorMessage: "The run was given up because its worker stopped sending heartbeats."}
}

// QueueTimeout is the outcome of a run that waited for longer than
// [Options.MaxQueueTime].
func QueueTimeout() Outcome {
	return Outcome{Status: RunTimedOut, StatusDetail: "queue timeout",
		ErrorMessage: "The run was given up because it waited in the queue for too long."}
}

// Under is the outcome that a store stores: o, or what the recorded stop says
// when there is one. Usage is kept.
func (o Outcome) Under(stop *Stop) Outcome {
	if stop == nil {
		return o
	}
	return Outcome{Status: stop.Status, StatusDetail: stop.StatusDetail, ErrorMessage: stop.ErrorMessage, Usage: o.Usage}
}

// Event is the terminal event of a run that ended so.
func (o Outcome) Event() NewEvent {
	return NewEvent{Type: EventType("run_" + string(o.Status)), Payload: mustJSON(struct {
		Status       RunStatus `json:"status"`
		StatusDetail *string   `json:"status_detail"`
		ErrorMessage *string   `json:"error_message"`
	}{o.Status, wire.NullableString(o.StatusDetail), wire.NullableString(o.ErrorMessage)})}
}

// Stop is a recorded wish that a run end before its Runner has finished. From
// then on it decides the outcome.
type Stop struct {
	Status       RunStatus // RunCancelled or RunTimedOut
	StatusDetail string
	ErrorMessage string
}

// CancelStop is the stop of a cancellation; the reason may be empty.
func CancelStop(reason string) Stop {
	return Stop{Status: RunCancelled, StatusDetail: reason}
}

// DeadlineStop is the stop of a run that took longer than [Options.RunTimeout].
func DeadlineStop() Stop {
	return Stop{Status: RunTimedOut, StatusDetail: "deadline exceeded",
		ErrorMessage: "The run was stopped because it took longer than allowed."}
}

// Conversation is what a trigger starts. Its id is the trigger_id.
type Conversation struct {
	ID          int64
	AssistantID string
	Subject     string
	Metadata    json.RawMessage // as sent; nil: none
	CreatedAt   time.Time
}

// Role says who speaks in a message.
type Role string

// The roles of a message.
const (
	RoleUser      Role = "user"
	RoleAssistant Role = "assistant"
	RoleTool      Role = "tool"
)

// Message is one entry of a conversation.
type Message struct {
	ID             int64 // rises within the conversation
	ConversationID int64
	RunID          int64 // the run that it started or that wrote it
	Role           Role
	Content        string
	CreatedAt      time.Time
}

// NewMessage is a message to be stored.
type NewMessage struct {
	Role    Role
	Content string
}

// Run returns one run.
func (s *Service) RunByID(ctx context.Context, runID int64) (Run, error) {
	return s.store.RunByID(ctx, runID)
}

// Runs lists the runs that query selects, newest first. A query for an
// assistant or a status that cannot exist selects none.
func (s *Service) Runs(ctx context.Context, query RunQuery) ([]Run, error) {
	if query.AssistantID != "" && !ValidAssistantID(query.AssistantID) ||
		query.Status != "" && !query.Status.known() {
		return nil, nil
	}
	query.Page = query.Page.withDefaults()
	return s.store.Runs(ctx, query)
}

// RunInput returns what the caller of a run sent, byte for byte.
func (s *Service) RunInput(ctx context.Context, runID int64) (RunInput, error) {
	return s.store.RunInput(ctx, runID)
}

// Conversation returns one conversation; its id is the trigger_id.
func (s *Service) Conversation(ctx context.Context, conversationID int64) (Conversation, error) {
	return s.store.Conversation(ctx, conversationID)
}

// Messages lists the messages of a conversation in the order they were stored,
// those after the given id (0 starts); a limit of 0 is DefaultPageSize. An
// absent conversation has none.
func (s *Service) Messages(ctx context.Context, conversationID, after int64, limit int) ([]Message, error) {
	return s.store.Messages(ctx, conversationID, after, Page{Limit: limit}.withDefaults().Limit)
}

// known reports whether s is one of the six states.
func (s RunStatus) known() bool {
	return s == RunQueued || s == RunRunning || s.Terminal()
}

// DecodeResult parses the JSON result of a completed run into v, a pointer, as
// encoding/json does; into an any, numbers become json.Number, so that none loses
// a digit. It is an error when the run has not completed, or when its result is no
// JSON, which only a task definition with the output type json rules out.
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

// QueueState is the unfinished runs of a store at one instant, whichever process
// accepted or executes them.
type QueueState struct {
	Queued  int // runs that wait to be taken, those of another engine included
	Running int // runs that are taken, those included whose worker has vanished until they are swept

	// OldestAge is how long the run has waited that was queued first, on the store's
	// clock. A run that was given back counts from then. 0: none waits.
	OldestAge time.Duration
}

// QueueState reads the state of the queue, for metrics and alarms: an age that
// grows means too few workers. Its cost grows with the number of unfinished runs,
// not with those that have ended; once every few seconds is fine.
func (s *Service) QueueState(ctx context.Context) (QueueState, error) {
	return s.store.QueueState(ctx)
}

// MaxCancelReasonRunes bounds the reason of a cancellation, in Unicode code points.
const MaxCancelReasonRunes = 255

// CancelRun asks a run to end as cancelled and returns it as it is then. The
// reason becomes its status_detail; a blank one is none, a long or invalid one
// is a [RequestError].
//
//   - A queued run is cancelled at once and never starts.
//   - A running run is still running when CancelRun returns: its Runner's
//     context ends with ErrCancelled, and whatever the Runner then returns, the
//     run ends as cancelled. A stop that was recorded before stays.
//   - An ended run is returned unchanged.
//
// Cancelling twice is no error and keeps the first reason.
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
	over := false // before this call
	if s.opts.Hooks.Ended != nil {
		before, err := s.store.RunByID(ctx, runID)
		if err != nil {
			return Run{}, fmt.Errorf("cancel run: %w", err)
		}
		over = before.Status.Terminal()
	}
	run, err := s.store.RequestStop(ctx, runID, CancelStop(reason), nil)
	if err != nil {
		return Run{}, fmt.Errorf("cancel run: %w", err)
	}
	if !over {
		s.opts.Hooks.ended(ctx, run)
	}
	s.log.With(run.logFields()...).InfoContext(ctx, "run cancel requested", "assistant_id", run.AssistantID, "status", run.Status)
	return run, nil
}

// adviceAge is how long a run is queued before the lack of a worker is logged.
const adviceAge = 30 * time.Second

// checkWorkers logs that no process executes runs: this one does not, none is
// running, and the oldest has been queued for adviceAge. It reads the queue at most
// once in that time, not at its first call, and in the background, so that the
// request that calls it does not wait.
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
