package bunstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// stamp reads a time: timestamptz on Postgres, microseconds on SQLite. NULL is
// the zero time.
type stamp struct{ *time.Time }

func (s stamp) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*s.Time = time.Time{}
	case time.Time:
		*s.Time = v.UTC()
	case int64:
		*s.Time = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("bunstore: a time is stored as %T", value)
	}
	return nil
}

// raw reads JSON that is stored as text. NULL is nil.
type raw struct{ *json.RawMessage }

func (r raw) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*r.RawMessage = nil
	case string:
		*r.RawMessage = json.RawMessage(v)
	case []byte:
		*r.RawMessage = append(json.RawMessage{}, v...)
	default:
		return fmt.Errorf("bunstore: JSON is stored as %T", value)
	}
	return nil
}

// text is JSON as an argument: nil is NULL.
func text(raw json.RawMessage) any {
	if raw == nil {
		return nil
	}
	return string(raw)
}

// optional is a text of a JSON argument: nil is null.
func optional(raw json.RawMessage) *string {
	if raw == nil {
		return nil
	}
	s := string(raw)
	return &s
}

// idList is a list of ids as one argument: of $n::bigint[] on Postgres, of
// json_each(?) on SQLite.
func (s *Store) idList(ids []int64) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = strconv.FormatInt(id, 10)
	}
	if s.postgres {
		return "{" + strings.Join(parts, ",") + "}"
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// runColumns are what scanRun reads: r is the run, q its row in the queue or NULLs,
// e its end or NULLs, cb its last delivery that has an outcome or NULLs.
const runColumns = stateColumns + `, ` + fullTask + `, e.result`

// summaryColumns are what scanSummary reads. The beginning of a task definition, which
// has its id, is read without the rest, also if the database stores the text apart.
const summaryColumns = stateColumns + `, substr(r.task, 1, 64), NULL`

const statusColumn = `coalesce(e.status, CASE q.state WHEN 'r' THEN 'running' WHEN 'w' THEN 'waiting' ELSE 'queued' END)`

const stateColumns = `r.id, r.run_key, r.conversation_id, r.message_id, r.assistant_id, r.key_id, r.base_url, r.callback_url, r.trace_parent,
	r.request_id, r.conversation_key, coalesce(q.state = 'b', false), r.created_at, ` + statusColumn + `, e.status_detail,
	e.error_message, e.input_tokens, e.output_tokens, coalesce(e.attempts, q.attempts, 0), coalesce(e.started_at, q.started_at),
	e.completed_at, cb.id, cb.state, cb.http_status, cb.error_class, coalesce(cb.completed_at, cb.unknown_at)`

// fromRuns is where runColumns come from.
const fromRuns = `{runs} r ` + runParts

// runParts are the tables of runColumns beside r.
const runParts = `LEFT JOIN {queue} q ON q.run_id = r.id LEFT JOIN {ends} e ON e.run_id = r.id
	LEFT JOIN {deliveries} cb ON cb.id = CASE WHEN r.callback_url <> '' THEN
		(SELECT max(id) FROM {deliveries} WHERE run_id = r.id AND state NOT IN ('pending', 'sending')) END`

// pgRunParts are runParts of one run after the other.
const pgRunParts = `
	LEFT JOIN LATERAL (SELECT * FROM {queue} WHERE run_id = r.id LIMIT 1) q ON true
	LEFT JOIN LATERAL (SELECT * FROM {ends} WHERE run_id = r.id LIMIT 1) e ON true
	LEFT JOIN LATERAL (
		SELECT * FROM {deliveries} WHERE r.callback_url <> '' AND run_id = r.id AND state NOT IN ('pending', 'sending') ORDER BY id DESC LIMIT 1
	) cb ON true`

// runRow is a row of runColumns or summaryColumns while it is read.
type runRow struct {
	summary                   bool // task is the beginning of the definition
	run                       webtrigger.Run
	id, conversationID        sql.NullInt64 // NULL: an outer join found none
	messageID                 sql.NullInt64
	key, assistantID          sql.NullString
	keyID, attempts           sql.NullInt64
	status, detail, failure   sql.NullString
	inputTokens, outputTokens sql.NullInt64
	task                      json.RawMessage
	base, callback, trace     sql.NullString
	requestID, result         sql.NullString
	conversationKey           sql.NullString
	delivery, httpStatus      sql.NullInt64
	deliveryState, errorClass sql.NullString
}

// dest is where the columns go.
func (x *runRow) dest() []any {
	return []any{
		&x.id, &x.key, &x.conversationID, &x.messageID, &x.assistantID, &x.keyID, &x.base, &x.callback, &x.trace,
		&x.requestID, &x.conversationKey, &x.run.Behind, stamp{&x.run.CreatedAt}, &x.status, &x.detail,
		&x.failure, &x.inputTokens, &x.outputTokens, &x.attempts, stamp{&x.run.StartedAt},
		stamp{&x.run.CompletedAt}, &x.delivery, &x.deliveryState, &x.httpStatus, &x.errorClass, stamp{&x.run.Callback.At},
		raw{&x.task}, &x.result,
	}
}

// read makes the run of the columns, or nil where there is none.
func (x *runRow) read() (*webtrigger.Run, error) {
	if !x.id.Valid {
		return nil, nil
	}
	run := &x.run
	run.ID, run.Key, run.ConversationID, run.AssistantID = x.id.Int64, x.key.String, x.conversationID.Int64, x.assistantID.String
	run.ConversationKey = x.conversationKey.String
	run.Continues = x.messageID.Int64 > firstMessage
	run.KeyID, run.BaseURL, run.CallbackURL = x.keyID.Int64, x.base.String, x.callback.String
	run.TraceParent, run.RequestID, run.Attempts = x.trace.String, x.requestID.String, int(x.attempts.Int64)
	if err := x.readTask(); err != nil {
		return nil, err
	}
	run.Status, run.StatusDetail = webtrigger.RunStatus(x.status.String), x.detail.String
	run.ErrorMessage, run.Result = x.failure.String, x.result.String
	if x.inputTokens.Valid {
		run.Usage = &webtrigger.Usage{InputTokens: x.inputTokens.Int64, OutputTokens: x.outputTokens.Int64}
	}
	run.Callback.DeliveryID, run.Callback.State = x.delivery.Int64, webtrigger.DeliveryState(x.deliveryState.String)
	run.Callback.HTTPStatus, run.Callback.FailureClass = int(x.httpStatus.Int64), webtrigger.FailureClass(x.errorClass.String)
	return run, nil
}

func (x *runRow) readTask() error {
	if x.summary && x.task != nil {
		x.run.TaskDefinitionID = taskID(string(x.task))
		return nil
	}
	return setTask(&x.run, x.task)
}

// setTask gives a run its copy of a definition; nil is none.
func setTask(run *webtrigger.Run, encoded []byte) error {
	if encoded == nil {
		return nil
	}
	run.TaskDefinition = new(webtrigger.TaskDefinition)
	if err := decodeTask(encoded, run.TaskDefinition); err != nil {
		return brokenRun{fmt.Errorf("run %d: %w", run.ID, err)}
	}
	run.TaskDefinitionID = run.TaskDefinition.ID
	return nil
}

// brokenRun is the error of a run that was read and cannot be decoded. It must not keep others
// from being claimed or sent.
type brokenRun struct{ error }

func (b brokenRun) Unwrap() error { return b.error }

// passOver logs a broken run and returns no error. It returns other errors as they are.
func (s *Store) passOver(ctx context.Context, err error) error {
	if !errors.As(err, new(brokenRun)) {
		return err
	}
	s.log.ErrorContext(ctx, "stored run cannot be decoded", "error", err)
	return nil
}

// taskID is the id at the beginning of an encoded definition. It is 0 if the definition is
// damaged: the run can still end, and lists that have it can be read.
func taskID(encoded string) int64 {
	digits, _, _ := strings.Cut(strings.TrimPrefix(encoded, `{"ID":`), ",")
	id, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0
	}
	return id
}

// scanRun reads runColumns, and what follows them into more.
func scanRun(row scanner, more ...any) (webtrigger.Run, error) {
	return scanRunRow(row, &runRow{}, more)
}

// scanSummary reads summaryColumns, and what follows them into more.
func scanSummary(row scanner, more ...any) (webtrigger.Run, error) {
	return scanRunRow(row, &runRow{summary: true}, more)
}

func scanRunRow(row scanner, x *runRow, more []any) (webtrigger.Run, error) {
	if err := row.Scan(append(x.dest(), more...)...); err != nil {
		return webtrigger.Run{}, err
	}
	run, err := x.read()
	if err != nil || run == nil {
		return webtrigger.Run{}, err
	}
	return *run, nil
}

// taskCopy is a task definition as a run keeps it: JSON whose texts hold the
// bytes of the schema as they are.
type taskCopy struct {
	webtrigger.TaskDefinition
	OutputSchema *string // instead of TaskDefinition.OutputSchema
}

// encodeTask is the run's copy of a definition; nil is NULL.
func encodeTask(task *webtrigger.TaskDefinition) (*string, error) {
	if task == nil {
		return nil, nil
	}
	encoded, err := json.Marshal(taskCopy{TaskDefinition: *task, OutputSchema: optional(task.OutputSchema)})
	if err != nil {
		return nil, fmt.Errorf("bunstore: encode task: %w", err)
	}
	s := string(encoded)
	return &s, nil
}

func decodeTask(encoded []byte, task *webtrigger.TaskDefinition) error {
	var c taskCopy
	if err := json.Unmarshal(encoded, &c); err != nil {
		return fmt.Errorf("bunstore: decode task: %w", err)
	}
	*task = c.TaskDefinition
	if c.OutputSchema != nil {
		task.OutputSchema = json.RawMessage(*c.OutputSchema)
	}
	return nil
}

// copyTask is a copy that shares nothing.
func copyTask(task *webtrigger.TaskDefinition) *webtrigger.TaskDefinition {
	if task == nil {
		return nil
	}
	c := *task
	c.AllowedTools = append([]string(nil), task.AllowedTools...)
	c.ApproveTools = append([]string(nil), task.ApproveTools...)
	c.OutputSchema = append(json.RawMessage(nil), task.OutputSchema...)
	return &c
}
