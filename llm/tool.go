package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
	"github.com/webtrigger-go/webtrigger/llm/internal/toolname"
)

// Tool is a function that a model may call.
type Tool struct {
	Name        string          // 1 to 64 of A-Z a-z 0-9 _ -
	Description string          // for the model: what the tool does and when to use it
	Parameters  json.RawMessage // JSON Schema of the arguments, an object; if nil, any object is accepted

	// Call executes one call. The arguments are a JSON object that meets Parameters.
	// Keywords of Parameters that are not supported are not checked. The result, or the
	// text of the error, is returned to the model and recorded in the run's events. The
	// value of a panic is logged only. Call must be safe for concurrent use: the agent
	// calls it for different runs, and for several calls of one model answer, at once.
	// [CallFrom] returns the run and the id of the call.
	//
	// Call must return soon after ctx ends. If it does not, the agent abandons it: the
	// call has failed, and a later result is dropped.
	Call func(ctx context.Context, arguments json.RawMessage) (string, error)

	// Repeatable declares that the tool may be called again with the same call id and
	// arguments: it only reads, or it deduplicates by Call.ID. If the process ends during
	// a call, a later attempt of the run then repeats the call. Otherwise the call is not
	// repeated, and the model reads that its outcome is unknown.
	Repeatable bool

	// NeedsApproval makes each call wait until a person approves it, see
	// [webtrigger.AskInput]. The tool is called with exactly the arguments that the person
	// has seen, without white space between their tokens. If the person denies the call,
	// it fails, and the model reads the reason. Without a decision in time, the call counts
	// as denied.
	NeedsApproval bool

	// Timeout is the maximum duration of one call. If zero, it is
	// AgentOptions.ToolTimeout.
	Timeout time.Duration
}

// Call describes the call that a tool executes.
type Call struct {
	Task *webtrigger.Task // the run with its assistant, input and API key; must not be changed

	// ID is unique within the run. Together with the run's key, it identifies the call
	// permanently, so a tool may use the two as an idempotency key.
	ID string
}

type callKey struct{}

// CallFrom returns the call that the context of a tool belongs to. ok is false
// outside of an Agent's calls.
func CallFrom(ctx context.Context) (call Call, ok bool) {
	call, ok = ctx.Value(callKey{}).(Call)
	return call, ok
}

// NewTool returns a tool for a function with an argument struct, or a map with
// string keys. It derives the JSON Schema of the arguments: json tags name the
// properties, a jsonschema tag describes a property, and omitempty makes one
// optional. A string result is returned to the model as it is, and any other result
// as JSON.
func NewTool[A, R any](name, description string, call func(ctx context.Context, args A) (R, error)) (Tool, error) {
	if call == nil {
		return Tool{}, fmt.Errorf("llm: tool %q: function must not be nil", name)
	}
	schema, err := jsonschema.For[A](nil)
	if err != nil {
		return Tool{}, fmt.Errorf("llm: tool %s: derive schema: %w", name, err)
	}
	if schema.Type != "object" {
		return Tool{}, fmt.Errorf("llm: tool %s: arguments must be a struct or a map", name)
	}
	if schema.Properties == nil { // of an empty struct; OpenAI's API requires the keyword
		schema.Properties = map[string]*jsonschema.Schema{}
	}
	parameters, err := json.Marshal(schema)
	if err != nil {
		return Tool{}, fmt.Errorf("llm: tool %s: marshal schema: %w", name, err)
	}
	return Tool{
		Name: name, Description: description, Parameters: parameters,
		Call: func(ctx context.Context, arguments json.RawMessage) (string, error) {
			var args A
			if err := json.Unmarshal(arguments, &args); err != nil {
				return "", fmt.Errorf("read arguments: %w", err)
			}
			result, err := call(ctx, args)
			if err != nil {
				return "", err
			}
			return resultText(result)
		},
	}, nil
}

func resultText(result any) (string, error) {
	if text, ok := result.(string); ok {
		return text, nil
	}
	raw, err := wire.Marshal(result)
	if err != nil {
		return "", fmt.Errorf("write result: %w", err)
	}
	return string(raw), nil
}

// CheckTool returns an error if an agent cannot use a tool because of its name, its
// function, its Timeout or its schema. A caller that loads tools from another source can skip
// an invalid tool, instead of failing to create the agent.
func CheckTool(t Tool) error {
	_, err := newRegistered(t, slog.New(slog.DiscardHandler))
	return err
}

// register checks tools and compiles their schemas.
func register(tools []Tool, log *slog.Logger) (map[string]*registered, error) {
	byName := make(map[string]*registered, len(tools))
	for _, t := range tools {
		r, err := newRegistered(t, log)
		if err != nil {
			return nil, err
		}
		if _, ok := byName[t.Name]; ok {
			return nil, fmt.Errorf("llm: tool %s: registered twice", t.Name)
		}
		byName[t.Name] = r
	}
	return byName, nil
}

func newRegistered(t Tool, log *slog.Logger) (*registered, error) {
	if !toolname.Valid(t.Name) {
		return nil, fmt.Errorf("llm: tool %q: name must be 1 to 64 of A-Z a-z 0-9 _ -", fitName(t.Name))
	}
	if t.Call == nil {
		return nil, fmt.Errorf("llm: tool %s: function must not be nil", t.Name)
	}
	if t.Timeout < 0 {
		return nil, fmt.Errorf("llm: tool %s: Timeout must not be negative", t.Name)
	}
	if text := bytes.TrimSpace(t.Parameters); len(text) == 0 || string(text) == "null" {
		t.Parameters = json.RawMessage(`{"type":"object","properties":{}}`)
	}
	check, err := checkArguments(t.Parameters, func(loss schemadoc.Loss) {
		log.Info("schema keyword ignored", "tool", t.Name, "place", place(loss.Path), "keyword", fitName(loss.Keyword), "reason", fit(loss.Reason))
	})
	if err != nil {
		return nil, fmt.Errorf("llm: tool %s: %w", t.Name, err)
	}
	t.Description = wire.ValidText(t.Description)
	return &registered{Tool: t, check: check}, nil
}

// checkArguments compiles the check of a tool's arguments: a JSON object that meets
// the schema, as far as its keywords are supported.
func checkArguments(schema json.RawMessage, ignored func(schemadoc.Loss)) (func(json.RawMessage) error, error) {
	if !json.Valid(schema) {
		return nil, errors.New("parameters are not valid JSON")
	}
	if firstByte(schema) != '{' {
		return nil, errors.New("parameters are not a JSON object")
	}
	check, err := compileArguments(schema, ignored)
	if err != nil {
		return nil, err
	}
	return func(arguments json.RawMessage) error {
		if _, err := parseJSON(arguments); err != nil {
			return invalidJSON("not valid JSON", err)
		}
		if firstByte(arguments) != '{' {
			return errors.New("not a JSON object")
		}
		return check(arguments)
	}, nil
}
