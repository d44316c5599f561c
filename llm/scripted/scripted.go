// Package scripted has a model that needs no network, for tests and evaluation: it
// executes the commands in the message.
//
// Lines of the raw message that begin with a slash are commands, executed in order:
//
//	/say TEXT          the final text (the last one counts)
//	/sleep 1.5s        waits
//	/tool NAME {json}  calls a tool
//	/approve NAME {json}  the same; the host makes the call wait for approval (see Approves)
//	/ask TEXT          asks a person with the tool ask_human
//	/stream N          streams N pieces of the final text
//	/emit N            records N x_step events
//	/fail TEXT         fails with TEXT
//	/panic             panics
//	/hang              waits until the run's context ends
//	/history           the final text: the earlier messages of the conversation, a "role: content" line each
//
// A message without such lines is answered with a short text that quotes the
// whole prompt.
package scripted

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

// Name is the model's name in responses.
const Name = "scripted"

// Model is the scripted model. It keeps no state: where it is in its script it
// reads from the conversation, so that it is safe for concurrent use.
type Model struct{}

var _ llm.LLM = (*Model)(nil)

// New returns the scripted model.
func New() *Model { return &Model{} }

// Generate plays the script from where the conversation stands: up to the next
// tool call, or to the end.
func (*Model) Generate(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	script, err := parse(message(req))
	if err != nil {
		return nil, err
	}
	p := player{ctx: ctx, req: req, run: ofRun(req), stream: stream, script: script}
	p.text = p.finalText()
	response, err := p.play()
	if err != nil {
		return nil, err
	}
	response.Model = Name
	response.Usage = usage(req, response)
	return response, nil
}

// message is what the caller sent, without the context that the prompt adds.
func message(req *llm.Request) string {
	if req.Task != nil {
		return req.Task.Input.Message
	}
	return prompt(req)
}

// ofRun returns the messages of this run: those from its prompt on.
func ofRun(req *llm.Request) []llm.Message {
	if req.Task != nil {
		for i, m := range slices.Backward(req.Messages) { // the last: the history may have the same text
			if m.Role == webtrigger.RoleUser && m.Content == req.Task.Prompt {
				return req.Messages[i:]
			}
		}
	}
	return req.Messages
}

func prompt(req *llm.Request) string {
	for _, m := range ofRun(req) { // the first: a later one asks for a repair
		if m.Role == webtrigger.RoleUser {
			return m.Content
		}
	}
	return ""
}

// player plays one call's part of a script.
type player struct {
	ctx    context.Context
	req    *llm.Request
	run    []llm.Message // of this run
	stream func(llm.Chunk) error
	script []command
	text   string // the final text
}

// toolResults returns the results of the tools so far, in order.
func (p *player) toolResults() (results []string) {
	for _, m := range p.run {
		if m.Role == webtrigger.RoleTool {
			results = append(results, m.Content)
		}
	}
	return results
}

// asked is the number of requests for an answer.
func (p *player) asked() (n int) {
	for _, m := range p.run {
		if m.Role == webtrigger.RoleUser {
			n++
		}
	}
	return n
}

// finalText is known from the start, so that it can be streamed on the way.
func (p *player) finalText() string {
	text, streamed := "", 0
	for _, c := range p.script {
		switch c.word {
		case "/say":
			text = c.text
		case "/history":
			text = p.history()
		case "/stream":
			streamed += c.n
		}
	}
	results := p.toolResults()
	switch {
	case text != "":
	case streamed > 0:
		words := make([]string, streamed)
		for i := range words {
			words[i] = fmt.Sprintf("word%d", i+1)
		}
		text = strings.Join(words, " ")
	case len(results) > 0:
		text = "The tool said: " + results[len(results)-1]
	default:
		text = "You said: " + prompt(p.req)
	}
	return text
}

// history returns the earlier messages of the conversation, one line each.
func (p *player) history() string {
	if p.req.Task == nil || len(p.req.Task.History) == 0 {
		return "There are no earlier messages."
	}
	var lines []string
	for _, m := range p.req.Task.History {
		if m.Content != "" { // else it has tool calls alone
			lines = append(lines, string(m.Role)+": "+strings.Join(strings.Fields(m.Content), " "))
		}
	}
	return strings.Join(lines, "\n")
}

func (p *player) play() (*llm.Response, error) {
	if p.asked() > 1 { // to repair the answer: the script was played
		return &llm.Response{Text: p.text, Finish: llm.FinishStop}, nil
	}
	pieces := split(p.text, p.script)
	done := len(p.toolResults()) // tool calls of the script that are answered
	for _, c := range p.script {
		if done > 0 { // what stands before an answered call was played then
			if c.calls() {
				done--
			}
			if c.word == "/stream" {
				pieces = pieces[c.n:]
			}
			continue
		}
		switch c.word {
		case "/sleep":
			if err := wait(p.ctx, time.After(c.wait)); err != nil {
				return nil, err
			}
		case "/hang":
			return nil, wait(p.ctx, nil)
		case "/fail":
			return nil, errors.New(c.text)
		case "/panic":
			panic("command /panic")
		case "/emit":
			for i := range c.n {
				if err := p.stream(llm.Chunk{Type: "x_step", Payload: map[string]int{"step": i + 1, "of": c.n}}); err != nil {
					return nil, err
				}
			}
		case "/stream":
			for _, piece := range pieces[:c.n] {
				if err := p.stream(llm.Chunk{Text: piece}); err != nil {
					return nil, err
				}
			}
			pieces = pieces[c.n:]
		case "/tool", "/approve", "/ask":
			id := fmt.Sprintf("call_%d", len(p.toolResults())+1)
			return &llm.Response{Finish: llm.FinishToolCalls,
				ToolCalls: []llm.ToolCall{{ID: id, Name: c.text, Arguments: c.arguments}}}, nil
		}
	}
	return &llm.Response{Text: p.text, Finish: llm.FinishStop}, nil
}

func wait(ctx context.Context, over <-chan time.Time) error {
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// split cuts the text into as many pieces as the script streams in all; there
// are empty ones when the text is short. Together they are the text.
func split(text string, script []command) []string {
	n := 0
	for _, c := range script {
		if c.word == "/stream" {
			n += c.n
		}
	}
	runes := []rune(text)
	pieces := make([]string, n)
	for i := range pieces {
		pieces[i] = string(runes[i*len(runes)/n : (i+1)*len(runes)/n])
	}
	return pieces
}

// usage counts four characters as a token.
func usage(req *llm.Request, response *llm.Response) webtrigger.Usage {
	in := 0
	for _, m := range req.Messages {
		in += len(m.Content)
	}
	return webtrigger.Usage{InputTokens: int64(in+3) / 4, OutputTokens: int64(len(response.Text)+3) / 4}
}
