package vendorhttp

import (
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
	"github.com/webtrigger-go/webtrigger/llm"
)

// Answer is a model's answer while its pieces arrive.
type Answer struct {
	Model  string
	Detail string // the vendor's reason for a declined answer

	// Unclosed reports that the text ended within the model's thinking.
	Unclosed bool

	// MayLackReason accepts an answer without a finish reason if the server marked the
	// end of the stream.
	MayLackReason bool

	call   *Call
	req    *llm.Request
	stream func(llm.Chunk) error
	taken  map[string]bool // ids of tool calls of this conversation
	text   strings.Builder
	size   int
	usage  webtrigger.Usage

	ending Ending
	reason string // the vendor's word for ending
	whole  bool   // the server marked the end, or sent one document
}

// NewAnswer returns the empty answer to a request. Its text goes to stream.
func NewAnswer(call *Call, req *llm.Request, stream func(llm.Chunk) error) *Answer {
	a := &Answer{call: call, req: req, stream: stream, taken: make(map[string]bool)}
	for _, m := range req.Messages {
		for _, c := range m.ToolCalls {
			a.taken[c.ID] = true
		}
	}
	return a
}

// Grow counts bytes that the answer keeps, and fails if there are too many.
func (a *Answer) Grow(size int) error {
	if a.size += size; a.size > MaxAnswer {
		return a.call.TooLarge()
	}
	return nil
}

// AddText adds a piece of text and streams it. Grow must have counted it.
func (a *Answer) AddText(text string) error {
	if text == "" {
		return nil
	}
	a.text.WriteString(text)
	return a.stream(llm.Chunk{Text: text})
}

// Text is the text so far.
func (a *Answer) Text() string { return a.text.String() }

// End records a finish reason. If there are several, the gravest one counts: a later
// event that repeats the usual reason does not hide an earlier error.
func (a *Answer) End(reason string) {
	if ending := ReadEnding(reason); ending > a.ending {
		a.ending, a.reason = ending, reason
	}
}

// EndNative records the reason that a router got from the provider behind it, unless
// its meaning is not known.
func (a *Answer) EndNative(reason string) {
	if ReadEnding(reason) != Unknown {
		a.End(reason)
	}
}

// Ended reports whether the answer has a finish reason.
func (a *Answer) Ended() bool { return a.ending != Unsaid }

// Complete reports whether the model finished on its own: nothing that comes later
// changes that.
func (a *Answer) Complete() bool { return a.ending == Whole || a.ending == Tools }

// Count records token counts. Servers report them once or several times; the largest
// figures count, and figures that are absent or null (negative) change nothing.
func (a *Answer) Count(input, output int64) {
	a.usage.InputTokens = max(a.usage.InputTokens, input)
	a.usage.OutputTokens = max(a.usage.OutputTokens, output)
}

// maxID is the longest id, in bytes. The agent replaces a longer one, and then nothing
// that is kept for a call is found by its id.
const maxID = 256

// FreshID returns the id, or another one if a server gave none, one twice, or one that
// the agent would replace. The others have the form that the strictest server accepts:
// nine letters and digits.
func (a *Answer) FreshID(id string) string {
	if len(id) > maxID || wire.ValidText(id) != id {
		id = ""
	}
	for id == "" || a.taken[id] {
		id = rand.Text()[:9]
	}
	a.taken[id] = true
	return id
}

// Response returns the answer, or the error that it is not complete.
func (a *Answer) Response(calls []llm.ToolCall) (*llm.Response, error) {
	r := &llm.Response{Text: a.Text(), ToolCalls: calls, Usage: a.usage, Model: a.Model, Finish: llm.FinishStop}
	if len(calls) > 0 {
		r.Finish = llm.FinishToolCalls // some servers send stop here
	}
	nothing := strings.TrimSpace(r.Text) == "" && len(calls) == 0
	switch a.ending {
	case Broken:
		return nil, a.broken("the model stopped early")
	case Refusal:
		r.Finish, r.Detail = llm.FinishRefusal, a.Detail
		return r, nil
	case Length:
		r.Finish = llm.FinishLength
		return r, nil
	case Unsaid:
		if nothing || !a.whole {
			return nil, a.call.Cut()
		}
	}
	switch {
	case a.Detail != "":
		r.Finish, r.Detail = llm.FinishRefusal, a.Detail
	case a.Unclosed && len(calls) == 0:
		return nil, a.broken("the answer ended within the model's thinking")
	case a.ending == Tools && len(calls) == 0:
		return nil, a.broken("the model stopped for a tool call that is missing")
	case a.ending <= Tools && a.ending != Unsaid:
	case nothing || !valid(calls):
		return nil, a.broken("the answer ended for an unknown reason")
	default:
		a.warn("unknown finish reason accepted", slog.String("finish_reason", a.call.vendor.clean(a.reason)))
	}
	return r, nil
}

// valid reports whether the arguments of all calls are complete.
func valid(calls []llm.ToolCall) bool {
	for _, c := range calls {
		if !json.Valid(c.Arguments) {
			return false
		}
	}
	return true
}

// broken is the error of an answer that is not complete. Another attempt may give a
// whole one.
func (a *Answer) broken(what string) error {
	label := ""
	for word := range strings.FieldsSeq(a.reason) {
		if !a.Complete() && codeWord.MatchString(word) {
			label = " (" + word + ")"
		}
	}
	detail := a.reason
	if a.Detail != "" {
		detail += ": " + a.Detail
	}
	return a.call.vendor.fail(true, what+label, "finish reason "+strconv.Quote(detail))
}

func (a *Answer) warn(message string, attrs ...slog.Attr) {
	if task := a.req.Task; task != nil {
		attrs = append(attrs, slog.Int64("run_id", task.Run.ID), slog.String("run_key", task.Run.Key))
	}
	attrs = append(attrs, slog.String("model", a.call.vendor.clean(a.Model)))
	a.call.vendor.log.LogAttrs(a.call.caller, slog.LevelWarn, message, attrs...)
}
