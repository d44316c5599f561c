package webtrigger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Limits of the questions of a run and of their answers.
const (
	MaxInputs             = 100 // questions of a run
	MaxQuestionRunes      = 4000
	MaxChoices            = 100
	MaxChoiceRunes        = 200
	MaxInputSchemaBytes   = 32 << 10
	MaxInputArgumentBytes = 128 << 10
	MaxAnswerBytes        = 64 << 10
	MaxAnswerReasonRunes  = 1000

	DefaultInputExpiry = 24 * time.Hour
	MaxInputExpiry     = 30 * 24 * time.Hour
)

const maxInputName = 255 // bytes

// InputRequest is a question to a person, or the request to approve a tool call. See
// [AskInput].
type InputRequest struct {
	// Name distinguishes the questions of a run, together with their count within the
	// name. Questions that are asked in parallel must have different names. It has at
	// most 255 bytes. It may be empty.
	Name string

	// Question is the text that the person reads. A question must not be blank. For an
	// approval, the default is "Approve the call of <tool>?". Maximum:
	// MaxQuestionRunes characters.
	Question string

	// Choices are the possible answers, as JSON strings. If empty, every answer that
	// fits Schema is possible. They must be distinct and have 1 to MaxChoiceRunes
	// characters each.
	Choices []string

	// Schema is the JSON Schema of the answer. It needs [Options.CompileSchema] and
	// excludes Choices. If Schema and Choices are empty, the answer is a string.
	Schema json.RawMessage

	// Tool and Arguments make the request an approval: of a call of this tool with
	// exactly these arguments, which are a JSON object. White space between their
	// tokens is removed. An approval has neither Choices nor Schema.
	Tool      string
	Arguments json.RawMessage

	// ExpiresIn is how long the run waits. If zero, it is DefaultInputExpiry. Minimum:
	// 1 s. Maximum: MaxInputExpiry. Without an answer, the run then ends as timed_out.
	ExpiresIn time.Duration

	// DenyOnExpiry makes an approval without an answer count as denied at its expiry.
	// The run then continues.
	DenyOnExpiry bool
}

// InputKind is the kind of an InputRequest.
type InputKind string

// Kinds of requests.
const (
	InputQuestion InputKind = "question"
	InputApproval InputKind = "approval"
)

// Kind returns InputApproval if the request names a tool.
func (r *InputRequest) Kind() InputKind {
	if r.Tool != "" {
		return InputApproval
	}
	return InputQuestion
}

// Decision is the answer to an approval.
type Decision string

// Decisions of an approval.
const (
	DecisionApprove Decision = "approve"
	DecisionDeny    Decision = "deny"
)

// InputAnswer is the answer of a person.
type InputAnswer struct {
	Answer   json.RawMessage // of a question: one JSON value
	Decision Decision        // of an approval
	Reason   string          // of a decision; may be empty
	By       string          // who answered; empty if the request expired, or if the caller gave no name
	At       time.Time       // when the answer was stored
}

// Text returns the answer to a question without a schema. It is empty if the answer is
// not a JSON string.
func (a InputAnswer) Text() string {
	text, _ := strictjson.String(a.Answer)
	return text
}

// Same reports whether two answers are the same. By and At do not count.
func (a InputAnswer) Same(b InputAnswer) bool {
	return bytes.Equal(a.Answer, b.Answer) && a.Decision == b.Decision && a.Reason == b.Reason
}

// Input is a request for input that a run has made, with its answer.
type Input struct {
	ID        int64
	RunID     int64
	Request   InputRequest
	Ordinal   int // counts from 1 within Request.Name
	CreatedAt time.Time
	ExpiresAt time.Time
	Answer    *InputAnswer // nil: not answered
}

// View returns what status, events and the administration show of the request.
func (i *Input) View() InputView {
	v := InputView{ID: i.ID, Kind: i.Request.Kind(), Question: i.Request.Question, Schema: i.Request.Schema,
		Choices: i.Request.Choices, Tool: wire.NullableString(i.Request.Tool), Arguments: i.Request.Arguments,
		ExpiresAt: wire.FormatTime(i.ExpiresAt)}
	return v
}

// InputView is the JSON form of a request for input, without its answer.
type InputView struct {
	ID        int64           `json:"id"`
	Kind      InputKind       `json:"kind"`
	Question  string          `json:"question"`
	Schema    json.RawMessage `json:"schema"`
	Choices   []string        `json:"choices"`
	Tool      *string         `json:"tool"`
	Arguments json.RawMessage `json:"arguments"`
	ExpiresAt string          `json:"expires_at"`
}

// ExpiredAnswer returns the answer to an approval that expired and counts as denied; see
// [InputRequest.DenyOnExpiry].
func ExpiredAnswer() InputAnswer {
	return InputAnswer{Decision: DecisionDeny, Reason: "The request expired without a decision."}
}

// AskInput asks a person for the run of a task. If the request has an answer, AskInput
// returns it. Otherwise it returns an error that wraps [ErrWaiting]. The Runner must then
// return an error that wraps ErrWaiting too: the run becomes waiting and releases its
// slot and its lease. If the Runner returns anything else, the request is discarded.
//
// After the answer, the Runner is called again from its beginning, perhaps in another
// process, and AskInput returns the answer. Effects that must not be repeated belong
// before the question in a recorded step. The Runner must ask the same again: another
// request with the same name and count fails the run. A run waits for one request at a
// time. Of several that are asked in parallel, the first one counts.
//
// The time of waiting does not count toward [Options.RunTimeout]. AskInput returns
// another error if the request is invalid, if ctx has ended, or if the task was not made
// by a Service. It is safe for concurrent use.
func AskInput(ctx context.Context, task *Task, request InputRequest) (InputAnswer, error) {
	if task == nil || task.execution == nil {
		return InputAnswer{}, errors.New("webtrigger: ask input: task was not made by a Service")
	}
	x := task.execution
	if err := request.complete(x.s.opts.CompileSchema); err != nil {
		return InputAnswer{}, fmt.Errorf("webtrigger: ask input: %w", err)
	}
	return x.asks.ask(ctx, x, request)
}

// complete checks a request and sets its defaults. Texts are sanitized.
func (r *InputRequest) complete(compile func(json.RawMessage) (func(json.RawMessage) error, error)) error {
	r.Question, r.Tool = wire.ValidText(r.Question), wire.ValidText(r.Tool)
	r.Choices = slices.Clone(r.Choices)
	r.ExpiresIn = cmp.Or(r.ExpiresIn, DefaultInputExpiry)
	approval := r.Kind() == InputApproval
	if approval && r.Question == "" {
		r.Question = "Approve the call of " + r.Tool + "?"
	}
	switch {
	case len(r.Name) > maxInputName || !wire.CleanText(r.Name):
		return errors.New("InputRequest.Name must be valid UTF-8 of at most 255 bytes without NUL characters")
	case blank(r.Question) || utf8.RuneCountInString(r.Question) > MaxQuestionRunes:
		return errors.New("InputRequest.Question must have 1 to 4,000 characters and must not be blank")
	case r.ExpiresIn < time.Second || r.ExpiresIn > MaxInputExpiry:
		return errors.New("InputRequest.ExpiresIn must be from 1 s to 30 days")
	case r.DenyOnExpiry && !approval:
		return errors.New("InputRequest.DenyOnExpiry needs a Tool")
	case approval && (len(r.Choices) > 0 || len(r.Schema) > 0):
		return errors.New("InputRequest.Tool excludes Choices and Schema")
	case !approval && len(r.Arguments) > 0:
		return errors.New("InputRequest.Arguments need a Tool")
	case len(r.Tool) > maxToolName:
		return errors.New("InputRequest.Tool must have at most 64 bytes")
	case len(r.Choices) > 0 && len(r.Schema) > 0:
		return errors.New("InputRequest.Choices exclude Schema")
	}
	if approval {
		var err error
		r.Arguments, err = compactObject("InputRequest.Arguments", r.Arguments, MaxInputArgumentBytes)
		return err
	}
	if err := r.completeChoices(); err != nil || len(r.Schema) == 0 {
		r.Schema = nil
		return err
	}
	if compile == nil {
		return errors.New("InputRequest.Schema needs Options.CompileSchema")
	}
	var err error
	if r.Schema, err = compactObject("InputRequest.Schema", r.Schema, MaxInputSchemaBytes); err != nil {
		return err
	}
	if _, err := compile(r.Schema); err != nil {
		return fmt.Errorf("InputRequest.Schema is not a usable JSON Schema: %w", err)
	}
	return nil
}

func (r *InputRequest) completeChoices() error {
	if len(r.Choices) > MaxChoices {
		return errors.New("InputRequest.Choices must have at most 100 entries")
	}
	for i, choice := range r.Choices {
		r.Choices[i] = wire.ValidText(choice)
		if n := utf8.RuneCountInString(choice); n == 0 || n > MaxChoiceRunes || blank(choice) {
			return errors.New("each of InputRequest.Choices must have 1 to 200 characters and must not be blank")
		}
		if slices.Contains(r.Choices[:i], r.Choices[i]) {
			return errors.New("InputRequest.Choices must be distinct")
		}
	}
	return nil
}

// compactObject returns a JSON object without white space between its tokens. Two
// readers of the result cannot read it differently.
func compactObject(field string, raw json.RawMessage, limit int) (json.RawMessage, error) {
	var compact bytes.Buffer
	faults, err := strictjson.Value(raw)
	if err != nil || len(faults) > 0 || json.Compact(&compact, raw) != nil || !strictjson.IsObject(compact.Bytes()) {
		return nil, errors.New(field + " must be a JSON object without repeated keys, NUL characters and invalid UTF-8")
	}
	if compact.Len() > limit {
		return nil, fmt.Errorf("%s must have at most %d bytes", field, limit)
	}
	return compact.Bytes(), nil
}

// asks is the requests for input of one attempt.
type asks struct {
	mu     sync.Mutex // guards what follows
	read   bool
	stored map[inputPlace]*InputRequest // those of earlier attempts
	given  map[inputPlace]InputAnswer
	asked  map[string]int // how often, by name
	open   *Await         // the first request without an answer
	failed error          // fails the run
}

// inputPlace identifies a request within its run.
type inputPlace struct {
	name    string
	ordinal int
}

var errOtherInput = failure("The assistant made another request for input than the one that was answered.")

// ask returns the answer to a request, or records the request.
func (a *asks) ask(ctx context.Context, x *execution, request InputRequest) (InputAnswer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() != nil {
		return InputAnswer{}, context.Cause(ctx)
	}
	if err := a.load(ctx, x); err != nil {
		return InputAnswer{}, err
	}
	if a.asked == nil {
		a.asked = make(map[string]int)
	}
	a.asked[request.Name]++
	place := inputPlace{request.Name, a.asked[request.Name]}
	if stored := a.stored[place]; stored != nil {
		if !stored.fits(&request) {
			a.failed = errOtherInput
			return InputAnswer{}, errOtherInput
		}
		if answer, ok := a.given[place]; ok {
			return answer, nil
		}
	}
	if len(a.stored) >= MaxInputs {
		a.failed = failure("The assistant made more than 100 requests for input.")
		return InputAnswer{}, a.failed
	}
	if a.open == nil {
		a.open = &Await{Request: request, Ordinal: place.ordinal}
	}
	return InputAnswer{}, fmt.Errorf("webtrigger: ask input: %w", ErrWaiting)
}

// load reads the requests of earlier attempts once.
func (a *asks) load(ctx context.Context, x *execution) error {
	if a.read {
		return nil
	}
	var inputs []Input
	if x.requeued {
		// The end of the run waits for the lock: the read must end with the run, also if the
		// Runner has passed another context.
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stop := context.AfterFunc(x.ctx, func() { cancel(context.Cause(x.ctx)) })
		defer stop()
		err := x.read(ctx, "input", func(ctx context.Context) (err error) {
			inputs, err = x.s.store.Inputs(ctx, x.lease.RunID)
			return err
		})
		if errors.Is(err, errUnreadable) {
			return failure("The answers of the run could not be read.")
		}
		if err != nil {
			return err
		}
	}
	a.read, a.stored, a.given = true, make(map[inputPlace]*InputRequest), make(map[inputPlace]InputAnswer)
	for i := range inputs {
		place := inputPlace{inputs[i].Request.Name, inputs[i].Ordinal}
		a.stored[place] = &inputs[i].Request
		if inputs[i].Answer != nil {
			a.given[place] = *inputs[i].Answer
		}
	}
	return nil
}

// fits reports whether two requests ask the same. How long they wait does not matter.
func (r *InputRequest) fits(o *InputRequest) bool {
	return r.Question == o.Question && slices.Equal(r.Choices, o.Choices) && bytes.Equal(r.Schema, o.Schema) &&
		r.Tool == o.Tool && bytes.Equal(r.Arguments, o.Arguments)
}

// waits returns the request for which a Runner has returned ErrWaiting, or nil.
func (a *asks) waits(err error) *Await {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed != nil || !errors.Is(err, ErrWaiting) {
		return nil
	}
	return a.open
}

// outcome replaces the error of a Runner that did not wait.
func (a *asks) outcome(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed != nil {
		return a.failed
	}
	if errors.Is(err, ErrWaiting) {
		return failure("The assistant waits for input without a request.")
	}
	return err
}
