package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Tool is a function that a model may call.
type Tool struct {
	Name        string          // 1 to 64 of A-Z a-z 0-9 _ -
	Description string          // tells the model what it does and when to use it
	Parameters  json.RawMessage // JSON Schema of the arguments, an object; nil: any object

	// Call gets an object that meets Parameters. Its result, or the text of its
	// error, goes back to the model and into the run's events; a panic's goes to
	// the log only. It is called concurrently, for different runs and for the calls
	// that a model asks for at once. [CallFrom] tells what it is called for.
	//
	// It returns soon after ctx has ended. One that does not is left behind: its
	// call has failed, and what it returns later is dropped.
	Call func(ctx context.Context, arguments json.RawMessage) (string, error)

	// Timeout bounds one call. 0: AgentOptions.ToolTimeout.
	Timeout time.Duration
}

// Call says what a tool is called for.
type Call struct {
	Task *webtrigger.Task // the run, and so the assistant, the caller's input and the API key; not to be changed

	// ID is unique within the run. With the run's key it names the call for good:
	// what a tool may hand on as an idempotency key.
	ID string
}

type callKey struct{}

// CallFrom returns the call that a tool's context belongs to. ok is false outside
// of an Agent's calls.
func CallFrom(ctx context.Context) (call Call, ok bool) {
	call, ok = ctx.Value(callKey{}).(Call)
	return call, ok
}

// NewTool makes a tool of a function over an argument struct; the JSON Schema of
// the arguments is derived from the struct (json tags name the fields, a
// jsonschema tag describes one, omitempty makes one optional) or from a map with
// string keys. A result that is a string goes to the model as it is, any other
// as JSON.
func NewTool[A, R any](name, description string, call func(ctx context.Context, args A) (R, error)) (Tool, error) {
	if call == nil {
		return Tool{}, fmt.Errorf("llm: tool %q: no function", name)
	}
	schema, err := jsonschema.For[A](nil)
	if err != nil {
		return Tool{}, fmt.Errorf("llm: tool %s: derive schema: %w", name, err)
	}
	if schema.Type != "object" {
		return Tool{}, fmt.Errorf("llm: tool %s: the arguments must be a struct or a map", name)
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

var toolName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CheckTool reports why an agent could not use a tool: its name, its function, its
// time limit or its schema. It is for those who get tools from elsewhere and would
// rather leave one out than have no agent.
func CheckTool(t Tool) error {
	_, err := newRegistered(t)
	return err
}

// register checks tools and compiles their schemas.
func register(tools []Tool) (map[string]*registered, error) {
	byName := make(map[string]*registered, len(tools))
	for _, t := range tools {
		r, err := newRegistered(t)
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

func newRegistered(t Tool) (*registered, error) {
	if !toolName.MatchString(t.Name) {
		return nil, fmt.Errorf("llm: tool %q: the name must be 1 to 64 of A-Z a-z 0-9 _ -", fitName(t.Name))
	}
	if t.Call == nil {
		return nil, fmt.Errorf("llm: tool %s: no function", t.Name)
	}
	if t.Timeout < 0 {
		return nil, fmt.Errorf("llm: tool %s: Timeout must not be negative", t.Name)
	}
	if len(t.Parameters) == 0 {
		t.Parameters = json.RawMessage(`{"type":"object"}`)
	}
	check, err := compileParameters(t.Parameters)
	if err != nil {
		return nil, fmt.Errorf("llm: tool %s: %w", t.Name, err)
	}
	t.Description = wire.ValidText(t.Description)
	return &registered{Tool: t, check: check}, nil
}

// compileParameters compiles the check of a tool's arguments: an object, and
// what the schema says beyond that.
func compileParameters(schema json.RawMessage) (func(json.RawMessage) error, error) {
	if firstByte(schema) != '{' {
		return nil, errors.New("the parameters are not a JSON object")
	}
	check, err := CompileSchema(schema)
	if err != nil {
		return nil, err
	}
	return func(arguments json.RawMessage) error {
		if json.Valid(arguments) && firstByte(arguments) != '{' {
			return errors.New("not a JSON object")
		}
		return check(arguments)
	}, nil
}
