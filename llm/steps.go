package llm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/hook"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// An agent records its run as steps of webtrigger.Step:
//
//	step "model"          one for each answer: the answer with its native form
//	step "tool <id>"      one for each tool call: a start mark, then what the model reads
//	step "unknown <id>"   instead of the record of a call whose outcome is unknown
//
// A later attempt takes the same way through the records, without events, until there is
// no record. The events of a step are stored with it. Only pieces of streamed text and
// events of the model's own come before the record of their answer.

// modelAnswer is the record of a model's answer.
type modelAnswer struct {
	Text       string           `json:"text,omitempty"`  // sanitized
	Shown      *string          `json:"shown,omitempty"` // what readers got of the text, if that is different
	Calls      []recordedCall   `json:"calls,omitempty"`
	Finish     FinishReason     `json:"finish,omitempty"`
	Usage      webtrigger.Usage `json:"usage"`
	Model      string           `json:"model"`
	Native     json.RawMessage  `json:"native,omitempty"`
	Detail     string           `json:"detail,omitempty"`
	DurationMS int64            `json:"duration_ms"`
}

// recordedCall is a tool call as the model wrote it. Its parts may be invalid text, and
// its arguments may be invalid JSON.
type recordedCall struct {
	ID        []byte `json:"id"`
	Name      []byte `json:"name"`
	Arguments []byte `json:"arguments"`
}

func (a *modelAnswer) toolCalls() []ToolCall {
	calls := make([]ToolCall, len(a.Calls))
	for i, c := range a.Calls {
		calls[i] = ToolCall{ID: string(c.ID), Name: string(c.Name), Arguments: c.Arguments}
	}
	return calls
}

// errUnrecorded reports that a result is too large for a record. The run continues
// without it.
var errUnrecorded = errors.New("llm: result too large for a record")

// recordable returns errUnrecorded if v is too large for a record.
func recordable(v any) error {
	raw, err := wire.Marshal(v)
	if err == nil && len(raw) > webtrigger.MaxStepRecordBytes {
		err = errUnrecorded
	}
	return err
}

// ask gets the next answer of the model, from the record of an earlier attempt or by a
// model call, and returns what follows from it.
func (c *conversation) ask(ctx context.Context, steps int) (next following, err error) {
	var made *modelAnswer
	var failed error
	news := c.request.Messages[c.asked:] // what the model has not seen
	c.asked = len(c.request.Messages)
	follow := func() error {
		next, failed = c.follow(steps, made)
		return nil
	}
	recorded, err := webtrigger.StepWith(ctx, c.task, "model", func(ctx context.Context) (*modelAnswer, error) {
		if made, err = c.generate(ctx); err != nil {
			return nil, err
		}
		return made, recordable(made)
	}, &webtrigger.StepOptions{Input: news, Recorded: follow})
	switch {
	case errors.Is(err, errUnrecorded):
		_ = follow()
	case err != nil:
		return next, err
	case made == nil:
		made = recorded
		c.replaying, c.replayed = true, true
		c.text.restore(made)
		_ = follow()
		c.replaying = false
	}
	if failed == nil && ctx.Err() != nil {
		c.result.Text, failed = "", context.Cause(ctx)
	}
	return next, failed
}

// generate makes one model call and emits the model's text.
func (c *conversation) generate(ctx context.Context) (*modelAnswer, error) {
	if c.replayed { // readers drop the pieces of an earlier attempt
		c.replayed = false
		if err := c.text.repeat(); err != nil {
			return nil, err
		}
	}
	call, ended := hook.Begin(ctx, c.agent.opts.Hooks.Model, ModelInfo{Request: &c.request})
	began, before := time.Now(), c.text.shown.Len()
	response, err := c.agent.model.Generate(call, &c.request, c.stream)
	took := time.Since(began)
	ended(ModelOutcome{Response: response, Err: err})
	if err == nil && response != nil {
		err = c.text.end(response)
	}
	if err != nil && response != nil { // an error may come with the usage until then
		c.spend(response.Usage)
	}
	switch {
	case ctx.Err() != nil && (err != nil || response == nil):
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	case response == nil:
		return nil, failure("The model gave no answer.")
	}
	a := &modelAnswer{
		Text: wire.ValidText(response.Text), Finish: response.Finish, Usage: response.Usage, Model: wire.ValidText(response.Model),
		Native: response.Native, Detail: wire.ValidText(response.Detail), DurationMS: took.Milliseconds(),
	}
	if shown := c.text.shown.String()[before:]; shown != a.Text {
		a.Shown = &shown
	}
	for _, call := range response.ToolCalls {
		a.Calls = append(a.Calls, recordedCall{[]byte(call.ID), []byte(call.Name), call.Arguments})
	}
	return a, nil
}

// toolRecord is the record of a tool call.
type toolRecord struct {
	Text string `json:"text"` // for the model
}

// outcomeUnknown is what the model reads of a call whose outcome is unknown.
const (
	unknownError   = "the outcome of the call is unknown"
	outcomeUnknown = "Error: " + unknownError + ". The process that executed it ended before it recorded the result, so the call may have taken effect or not. " +
		"Do not assume either. If you can, check the effect before you call the tool again."
)

// perform executes a tool call, or returns the text that an earlier attempt has recorded.
// It calls begun once tool_started has its place among the events. An error means that the
// run must stop.
func (c *conversation) perform(ctx context.Context, call ToolCall, begun func()) (text string, err error) {
	tool, mistake := c.find(call)
	denied := c.denied[call.ID]
	if mistake == nil {
		mistake = denied
	}
	var made toolRecord
	var end func() error // emits the event of the outcome
	recorded, err := webtrigger.StepWith(ctx, c.task, stepName("tool", call.ID), func(ctx context.Context) (toolRecord, error) {
		text, err := c.try(ctx, call, tool, mistake)
		if err != nil && ctx.Err() != nil { // interrupted: the outcome is unknown
			return toolRecord{}, context.Cause(ctx)
		}
		text, end = c.toolOutcome(call, text, err)
		made = toolRecord{text}
		return made, recordable(made)
	}, &webtrigger.StepOptions{
		Input: [2]string{call.Name, string(compact(call.Arguments))},
		// The version of an earlier attempt may have had the tool, and called it.
		AtMostOnce: denied == nil && (mistake != nil || !tool.Repeatable),
		Started: func() error {
			defer begun()
			return c.emit(webtrigger.EventToolStarted, eventOf(call))
		},
		Recorded: func() error { return end() },
	})
	switch {
	case errors.Is(err, webtrigger.ErrOutcomeUnknown):
		return c.unknown(ctx, call)
	case errors.Is(err, errUnrecorded):
		return made.Text, end()
	}
	return recorded.Text, err
}

// compact returns arguments without white space between their tokens, as an approval does.
// Without it, a version that adds an approval could not use the record of a call.
func compact(arguments json.RawMessage) json.RawMessage {
	var out bytes.Buffer
	if json.Compact(&out, arguments) != nil {
		return arguments // the model wrote invalid JSON
	}
	return out.Bytes()
}

// unknown records that the outcome of a call is unknown.
func (c *conversation) unknown(ctx context.Context, call ToolCall) (text string, err error) {
	recorded, err := webtrigger.StepWith(ctx, c.task, stepName("unknown", call.ID), func(context.Context) (toolRecord, error) {
		c.log(call).Warn("tool outcome unknown", "effect", "the call is not repeated")
		return toolRecord{outcomeUnknown}, nil
	}, &webtrigger.StepOptions{Recorded: func() error {
		event, text := eventOf(call), unknownError
		event.Error = &text
		return c.emit(webtrigger.EventToolFailed, event)
	}})
	return recorded.Text, err
}

// stepName returns the name of a step for a call. The id may be any text of the model.
func stepName(kind, id string) string {
	const most = 200 // characters
	if utf8.RuneCountInString(id) > most || strings.ContainsFunc(id, unicode.IsControl) {
		sum := sha256.Sum256([]byte(id))
		id = "sha256:" + hex.EncodeToString(sum[:])
	}
	return kind + " " + id
}
