package adaptertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
)

const done = "data: [DONE]\n\n"

// OpenAI returns the services that speak OpenAI's chat completions API. newModel makes
// the model under test; azure makes one with the key in the header api-key and with an
// api-version.
func OpenAI(newModel, azure func(c Connection) (llm.LLM, error)) []Dialect {
	check := modeltest.CheckOpenAI(Key)
	services := []struct {
		name    string
		check   modeltest.Check
		reasons map[End][]string
		style   style
	}{
		{"OpenAI", check, nil, style{id: ids("call_"), index: numbered, pieces: 3, done: done, thinking: inField("reasoning_content")}},
		{"Ollama", check, nil, style{id: ids("call_"), index: zero, stop: true, done: done, thinking: inField("reasoning"),
			fail: func(s *stream, f Failure) {
				s.event("", map[string]any{"error": map[string]any{"message": f.Message, "type": f.Type, "code": nil}})
			}}},
		{"Ollama, older", check, nil, style{id: ids("call_"), index: zero, stop: true, object: true, together: true, done: done, thinking: inTags("<think>\n", "\n</think>\n\n"),
			fail: func(s *stream, f Failure) {
				s.event("", map[string]any{"error": fmt.Sprintf("%d: %s", f.Status, f.Message)})
			}}},
		{"vLLM", wellFormed(check), nil, style{id: ids("chatcmpl-tool-"), index: numbered, pieces: 2, done: done, thinking: inField("reasoning_content"),
			fail: func(s *stream, f Failure) {
				s.event("", map[string]any{"object": "error", "message": f.Message, "type": f.Type, "param": nil, "code": f.Status})
				s.Raw(done)
			}}},
		{"llama.cpp", wellFormed(check), nil, style{id: ids("c"), index: numbered, pieces: 6, named: true, done: done, thinking: inField("reasoning_content"),
			usage: func(s *stream, usage map[string]any, reason any) {
				s.delta(map[string]any{}, reason, map[string]any{"usage": usage, "timings": map[string]any{"prompt_n": 11}})
			},
			fail: func(s *stream, f Failure) {
				s.Raw(fmt.Sprintf("error: {\"code\":%d,\"message\":%q,\"type\":%q}\n\n", f.Status, f.Message, f.Type))
			}}},
		{"OpenRouter", returns(check, "reasoning_details"), map[End][]string{Broken: {"MALFORMED_FUNCTION_CALL"}}, style{id: ids("toolu_"), index: numbered, pieces: 2, done: done, native: true,
			prelude: func(s *stream) { s.Raw(": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n") },
			thinking: func(s *stream, pieces []string) {
				for _, p := range pieces {
					s.delta(map[string]any{"content": "", "reasoning": p, "reasoning_details": []any{map[string]any{"type": "reasoning.text", "text": p, "format": "anthropic-claude-v1", "index": 0}}}, nil, nil)
				}
				s.delta(map[string]any{"content": "", "reasoning_details": []any{map[string]any{"type": "reasoning.text", "signature": "c2ln", "format": "anthropic-claude-v1", "index": 0}}}, nil, nil)
			},
			fail: func(s *stream, f Failure) {
				failure := map[string]any{"code": f.Status, "message": "Provider returned error", "metadata": map[string]any{"raw": f.Message, "provider_name": "Acme"}}
				s.chunk([]any{map[string]any{"index": 0, "delta": map[string]any{"content": ""}, "finish_reason": "error", "error": failure}}, nil)
			}}},
		{"Groq", knownFields(returns(check, "reasoning")), nil, style{id: ids("fc_"), index: numbered, done: done, thinking: inField("reasoning"),
			usage: func(s *stream, usage map[string]any, reason any) {
				s.delta(map[string]any{}, reason, map[string]any{"x_groq": map[string]any{"id": "req_1", "usage": usage}})
			},
			fail: func(s *stream, f Failure) {
				s.event("error", map[string]any{"error": map[string]any{"message": f.Message, "type": f.Type, "status_code": f.Status}})
			}}},
		{"Gemini", signs(check), map[End][]string{Broken: {"function_call_filter: UNEXPECTED_TOOL_CALL"}}, style{id: empty, index: zero, stop: true, done: done,
			thinking: func(s *stream, pieces []string) {
				s.delta(map[string]any{"content": "<thought>" + strings.Join(pieces, ""), "extra_content": map[string]any{"google": map[string]any{"thought": true}}}, nil, nil)
				s.delta(map[string]any{"content": "</thought>"}, nil, nil)
			},
			signed: func(call map[string]any) {
				call["extra_content"] = map[string]any{"google": map[string]any{"thought_signature": "c2ln"}}
			},
			fail: func(s *stream, f Failure) {
				words := map[int]string{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 402: "insufficient_quota", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
					429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}
				s.event("", []any{map[string]any{"error": map[string]any{"code": f.Status, "message": f.Message, "status": words[f.Status]}}})
			}}},
		{"DeepSeek", returns(check, "reasoning_content"), nil, style{id: ids("call_00_"), index: numbered, pieces: 4, done: done, thinking: inField("reasoning_content")}},
		{"Mistral", mistral(check), nil, style{id: ids("abcdefgh"), index: numbered, done: done,
			content: func(text string) any {
				return []any{map[string]any{"type": "text", "text": text}, map[string]any{"type": "reference", "reference_ids": []int{1}}}
			},
			thinking: func(s *stream, pieces []string) {
				for _, p := range pieces {
					s.delta(map[string]any{"content": []any{map[string]any{"type": "thinking", "thinking": []any{map[string]any{"type": "text", "text": p}}}}}, nil, nil)
				}
			},
			usage: func(s *stream, usage map[string]any, reason any) {
				s.delta(map[string]any{"content": ""}, reason, map[string]any{"usage": usage})
			},
			fail: func(s *stream, f Failure) {
				s.event("", map[string]any{"object": "error", "message": map[string]any{"detail": f.Message}, "type": f.Type, "code": fmt.Sprint(f.Status)})
			}}},
		{"LM Studio", check, nil, style{id: equal, index: texts, pieces: 2, done: "data: [DONE]", newline: "\r\n", thinking: inTags("<think>", "</think>"),
			fail: func(s *stream, f Failure) {
				s.event("error", map[string]any{"error": map[string]any{"message": f.Message, "code": f.Type}})
			}}},
		{"SGLang", wellFormed(check), nil, style{id: equal, index: zero, done: done, newline: "\r", thinking: inField("reasoning_content"),
			fail: func(s *stream, f Failure) {
				s.chunk(nil, map[string]any{"error_type": f.Type, "error_message": fmt.Sprintf("%d: %s", f.Status, f.Message)})
			}}},
		{"LiteLLM", returns(check, "thinking_blocks"), nil, style{id: none, index: none, done: done,
			thinking: func(s *stream, pieces []string) {
				for _, p := range pieces {
					s.delta(map[string]any{"reasoning_content": p, "thinking_blocks": []any{map[string]any{"type": "thinking", "thinking": p, "signature": nil}}}, nil, nil)
				}
				s.delta(map[string]any{"thinking_blocks": []any{map[string]any{"type": "thinking", "thinking": "", "signature": "c2ln"}}}, nil, nil)
			},
			fail: func(s *stream, f Failure) {
				s.event("", map[string]any{"error": map[string]any{"message": "litellm.APIError: " + f.Message, "type": nil, "param": nil, "code": fmt.Sprint(f.Status)}})
			}}},
	}
	var dialects []Dialect
	for _, s := range services {
		dialects = append(dialects, Dialect{Name: s.name, New: newModel, Check: s.check, Reasons: s.reasons, Play: s.style.play, Fail: s.style.failing})
	}
	first := services[0].style
	dialects = append(dialects, Dialect{Name: "Azure", New: azure, Check: azureCheck, Play: func(w *modeltest.Wire, a Answer) {
		azure := first
		azure.prelude = func(s *stream) {
			s.chunk([]any{}, map[string]any{"model": "", "prompt_filter_results": []any{map[string]any{"prompt_index": 0}}})
		}
		azure.play(w, a)
	}, Fail: first.failing})
	return append(dialects, document(newModel, check))
}

// document is a server that does not stream.
func document(newModel func(c Connection) (llm.LLM, error), check modeltest.Check) Dialect {
	return Dialect{Name: "a server without streams", New: newModel, Check: check, Document: true,
		Play: func(w *modeltest.Wire, a Answer) {
			message := map[string]any{"role": "assistant", "content": strings.Join(a.Text, ""), "reasoning_content": strings.Join(a.Thinking, "")}
			var calls []any
			for i, c := range a.Calls {
				calls = append(calls, map[string]any{"id": fmt.Sprintf("call_%d", i), "type": "function", "function": map[string]any{"name": c.Name, "arguments": c.Arguments}})
			}
			message["tool_calls"] = calls
			reason := any("stop")
			switch {
			case a.NoReason:
				reason = nil
			case a.Reason != "":
				reason = a.Reason
			case calls != nil:
				reason = "tool_calls"
			}
			doc := map[string]any{"object": "chat.completion", "model": "model-2026", "usage": map[string]any{"prompt_tokens": 11, "completion_tokens": 7},
				"choices": []any{map[string]any{"index": 0, "message": message, "finish_reason": reason}}}
			if a.Then == nil {
				w.JSON(http.StatusOK, doc)
				return
			}
			text, _ := json.Marshal(doc)
			w.Header("Content-Type", "application/json")
			w.Raw(string(text[:len(text)/2]))
			a.Then(w)
		},
		Fail: func(w *modeltest.Wire, f Failure) {
			w.JSON(http.StatusOK, map[string]any{"error": map[string]any{"message": f.Message, "type": f.Type}})
		}}
}

// azureCheck requires the key in its own header, and a version.
func azureCheck(r *http.Request, body map[string]any) *modeltest.Rejection {
	if r.Header.Get("Api-Key") != Key || r.Header.Get("Authorization") != "" || r.URL.Query().Get("api-version") == "" {
		return &modeltest.Rejection{Status: http.StatusUnauthorized, Document: map[string]any{"error": map[string]any{"code": "401", "message": "Access denied"}}}
	}
	return modeltest.CheckOpenAI("")(r, body)
}

// messages are those of a request.
func messages(body map[string]any) (all []map[string]any) {
	list, _ := body["messages"].([]any)
	for _, m := range list {
		message, _ := m.(map[string]any)
		all = append(all, message)
	}
	return all
}

func calls(message map[string]any) (all []map[string]any) {
	list, _ := message["tool_calls"].([]any)
	for _, c := range list {
		call, _ := c.(map[string]any)
		all = append(all, call)
	}
	return all
}

func bad(status int, format string, args ...any) *modeltest.Rejection {
	return &modeltest.Rejection{Status: status, Document: map[string]any{"error": map[string]any{"message": fmt.Sprintf(format, args...), "code": status}}}
}

// wellFormed returns a check of a server that renders the history, so the arguments of
// calls must be JSON.
func wellFormed(next modeltest.Check) modeltest.Check {
	return func(r *http.Request, body map[string]any) *modeltest.Rejection {
		for _, m := range messages(body) {
			for _, c := range calls(m) {
				function, _ := c["function"].(map[string]any)
				text, _ := function["arguments"].(string)
				var object map[string]any
				if json.Unmarshal([]byte(text), &object) != nil {
					return bad(400, "failed to parse tool call arguments as JSON: %s", text)
				}
			}
		}
		return next(r, body)
	}
}

// returns returns a check that requires the reasoning of a message with calls in a field.
func returns(next modeltest.Check, field string) modeltest.Check {
	return func(r *http.Request, body map[string]any) *modeltest.Rejection {
		for i, m := range messages(body) {
			text, _ := json.Marshal(m[field])
			if m["content"] == "Let me look." && !strings.Contains(string(text), "I should search.") {
				return bad(400, "messages[%d]: the %s of the thinking mode must be passed back", i, field)
			}
		}
		return next(r, body)
	}
}

// signs returns a check that requires the signature of the first call of a turn.
func signs(next modeltest.Check) modeltest.Check {
	return func(r *http.Request, body map[string]any) *modeltest.Rejection {
		for i, m := range messages(body) {
			if c := calls(m); c != nil && !strings.Contains(fmt.Sprint(c[0]["extra_content"]), "c2ln") {
				return bad(400, "messages[%d]: Function call is missing a thought_signature", i)
			}
		}
		return next(r, body)
	}
}

// knownFields returns a check that rejects unknown fields.
func knownFields(next modeltest.Check) modeltest.Check {
	known := []string{"role", "content", "name", "tool_calls", "tool_call_id", "reasoning"}
	return func(r *http.Request, body map[string]any) *modeltest.Rejection {
		for i, m := range messages(body) {
			for field := range m {
				if !strings.Contains(" "+strings.Join(known, " ")+" ", " "+field+" ") {
					return bad(400, "'messages.%d': property '%s' is unsupported", i, field)
				}
			}
		}
		return next(r, body)
	}
}

var mistralID = regexp.MustCompile(`^[a-zA-Z0-9]{9}$`)

// mistral returns a check that rejects ids of another form.
func mistral(next modeltest.Check) modeltest.Check {
	return func(r *http.Request, body map[string]any) *modeltest.Rejection {
		for _, m := range messages(body) {
			if parts, ok := m["content"].([]any); ok {
				m["content"] = fmt.Sprint(parts...) // the next check accepts only texts
			}
			for _, c := range calls(m) {
				if id, _ := c["id"].(string); !mistralID.MatchString(id) {
					return bad(400, "Tool call id was %s but must be a-z, A-Z, 0-9, with a length of 9.", id)
				}
			}
		}
		return next(r, body)
	}
}
