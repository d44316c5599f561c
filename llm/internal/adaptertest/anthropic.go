package adaptertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
)

// Anthropic returns the services that speak Anthropic's messages API.
func Anthropic(newModel func(c Connection) (llm.LLM, error)) []Dialect {
	check := returnsThinking(modeltest.CheckAnthropic(Key))
	reasons := map[End][]string{Length: {"max_tokens", "model_context_window_exceeded"}, Refusal: {"refusal"}}
	fail := func(w *modeltest.Wire, f Failure) {
		words := map[int]string{400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
			404: "not_found_error", 429: "rate_limit_error", 500: "api_error", 503: "overloaded_error"}
		modeltest.Anthropic{Wire: w}.Fail(words[f.Status], f.Message)
	}
	return []Dialect{
		{Name: "Anthropic", New: newModel, Check: check, Reasons: reasons, Fail: fail, Play: playAnthropic},
		{Name: "a server like Anthropic's", New: newModel, Check: check, Reasons: reasons, Play: playLoosely,
			Fail: func(w *modeltest.Wire, f Failure) {
				w.Event("", map[string]any{"error": map[string]any{"message": f.Message, "type": f.Type, "code": fmt.Sprint(f.Status)}})
			}},
		{Name: "a server without streams", New: newModel, Check: check, Reasons: reasons, Play: playMessage, Document: true,
			Fail: func(w *modeltest.Wire, f Failure) {
				w.JSON(http.StatusOK, modeltest.AnthropicError(f.Type, f.Message))
			}},
	}
}

// blocks are the blocks of an answer in order.
func blocks(a Answer) (all []map[string]any) {
	if len(a.Thinking) > 0 {
		all = append(all, map[string]any{"type": "thinking", "thinking": strings.Join(a.Thinking, ""), "signature": "c2ln"})
	}
	if len(a.Text) > 0 {
		all = append(all, map[string]any{"type": "text", "text": strings.Join(a.Text, "")})
	}
	for i, c := range a.Calls {
		var input any = c.Arguments // not JSON
		if json.Valid([]byte(c.Arguments)) {
			input = json.RawMessage(c.Arguments)
		}
		all = append(all, map[string]any{"type": "tool_use", "id": fmt.Sprintf("toolu_%d", i), "name": c.Name, "input": input})
	}
	return all
}

func (a Answer) stopReason() any {
	switch {
	case a.NoReason:
		return nil
	case a.Reason != "":
		return a.Reason
	case len(a.Calls) > 0:
		return "tool_use"
	}
	return "end_turn"
}

// playAnthropic writes an answer as Anthropic does.
func playAnthropic(w *modeltest.Wire, answer Answer) {
	a := modeltest.Anthropic{Wire: w}
	a.Start()
	at := 0
	if len(answer.Thinking) > 0 {
		a.Block(at, map[string]any{"type": "thinking", "thinking": "", "signature": ""})
		for _, p := range answer.Thinking {
			a.Delta(at, map[string]any{"type": "thinking_delta", "thinking": p})
		}
		a.Delta(at, map[string]any{"type": "signature_delta", "signature": "c2ln"})
		a.BlockStop(at)
		at++
	}
	if len(answer.Text) > 0 {
		a.Block(at, map[string]any{"type": "text", "text": ""})
		a.Text(at, answer.Text...)
		a.BlockStop(at)
		at++
	}
	for i, c := range answer.Calls {
		a.Tool(at, fmt.Sprintf("toolu_%d", i), c.Name)
		a.Input(at, cut(c.Arguments, 3)...)
		a.BlockStop(at)
		at++
	}
	if answer.Then != nil {
		answer.Then(w)
		return
	}
	a.Event("message_delta", map[string]any{"type": "message_delta", "delta": map[string]any{"stop_reason": answer.stopReason(), "stop_sequence": nil},
		"usage": map[string]any{"output_tokens": 7}})
	a.Event("message_stop", map[string]any{"type": "message_stop"})
}

// playLoosely writes an answer as servers do that only resemble Anthropic's: block
// indexes skip numbers, events have no names, some inputs come whole, unknown blocks and
// events come between, a second message_delta has neither a reason nor figures, and
// nothing marks the end.
func playLoosely(w *modeltest.Wire, answer Answer) {
	send := func(doc map[string]any) { w.Event("", doc) }
	send(map[string]any{"type": "message_start", "message": map[string]any{"model": "model-2026", "content": []any{}, "usage": map[string]any{"input_tokens": 11, "output_tokens": nil}}})
	send(map[string]any{"type": "weather", "rain": true})
	all := blocks(answer)
	for i, b := range all {
		at := 2*i + 1
		if b["type"] == "text" {
			for j, text := range answer.Text {
				if j == 0 {
					send(map[string]any{"type": "content_block_start", "index": at, "content_block": map[string]any{"type": "text", "text": text}})
					continue
				}
				send(map[string]any{"type": "content_block_delta", "index": at, "delta": map[string]any{"type": "text_delta", "text": text}})
			}
			continue
		}
		pieces := []string(nil)
		if i%2 == 0 && b["type"] == "tool_use" { // the others come whole
			pieces = cut(answer.Calls[len(answer.Calls)-(len(all)-i)].Arguments, 2)
			b["input"] = map[string]any{}
		}
		send(map[string]any{"type": "content_block_start", "index": at, "content_block": b})
		for _, p := range pieces {
			send(map[string]any{"type": "content_block_delta", "index": at, "delta": map[string]any{"type": "input_json_delta", "partial_json": p}})
		}
		send(map[string]any{"type": "content_block_start", "index": at + 1, "content_block": map[string]any{"type": "hologram", "light": 1}})
		send(map[string]any{"type": "content_block_delta", "index": at + 1, "delta": map[string]any{"type": "light_delta", "light": 2}})
	}
	if answer.Then != nil {
		answer.Then(w)
		return
	}
	send(map[string]any{"type": "message_delta", "delta": map[string]any{"stop_reason": answer.stopReason()}, "usage": map[string]any{"input_tokens": 0, "output_tokens": 7}})
	send(map[string]any{"type": "message_delta", "delta": map[string]any{"stop_reason": nil}, "usage": nil})
	send(map[string]any{"type": "message_delta", "delta": map[string]any{}, "usage": map[string]any{"output_tokens": nil}})
}

// playMessage answers with one document.
func playMessage(w *modeltest.Wire, a Answer) {
	doc := map[string]any{"type": "message", "role": "assistant", "model": "model-2026", "content": blocks(a),
		"stop_reason": a.stopReason(), "usage": map[string]any{"input_tokens": 11, "output_tokens": 7}}
	if a.Then == nil {
		w.JSON(http.StatusOK, doc)
		return
	}
	text, _ := json.Marshal(doc)
	w.Header("Content-Type", "application/json")
	w.Raw(string(text[:len(text)/2]))
	a.Then(w)
}

// returnsThinking returns a check that requires signed thinking before the calls.
func returnsThinking(next modeltest.Check) modeltest.Check {
	return func(r *http.Request, body map[string]any) *modeltest.Rejection {
		for i, m := range messages(body) {
			text, _ := json.Marshal(m["content"])
			if said := string(text); strings.Contains(said, "Let me look.") && !strings.Contains(said, `"signature":"c2ln","thinking":"I should search."`) {
				return &modeltest.Rejection{Status: http.StatusBadRequest, Document: modeltest.AnthropicError("invalid_request_error", fmt.Sprintf("messages.%d: thinking must come first", i))}
			}
		}
		return next(r, body)
	}
}
