package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/google/jsonschema-go/jsonschema"
)

// Tool is a function that a model may call.
type Tool struct {
	Name        string // 1 to 64 of A-Z a-z 0-9 _ -
	Description string // tells the model what it does and when to use it
	Parameters  json.RawMessage

	// Call gets arguments that meet Parameters. Its result, or the text of its
	// error, goes back to the model. It returns soon after ctx has ended.
	Call func(ctx context.Context, arguments json.RawMessage) (string, error)
}

// NewTool makes a tool of a function over an argument struct; the JSON Schema of
// the arguments is derived from the struct (json tags name the fields, a
// jsonschema tag describes one, omitempty makes one optional).
func NewTool[A any](name, description string, call func(ctx context.Context, args A) (string, error)) (Tool, error) {
	schema, err := jsonschema.For[A](nil)
	if err != nil {
		return Tool{}, fmt.Errorf("llm: tool %s: derive schema: %w", name, err)
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
			return call(ctx, args)
		},
	}, nil
}

// registered is a tool with its compiled schema.
type registered struct {
	Tool
	check func(json.RawMessage) error
}

var toolName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// register checks tools and compiles their schemas.
func register(tools []Tool) (map[string]registered, error) {
	byName := make(map[string]registered, len(tools))
	for _, t := range tools {
		if !toolName.MatchString(t.Name) {
			return nil, fmt.Errorf("llm: tool %q: the name must be 1 to 64 of A-Z a-z 0-9 _ -", t.Name)
		}
		if t.Call == nil {
			return nil, fmt.Errorf("llm: tool %s: no function", t.Name)
		}
		if _, ok := byName[t.Name]; ok {
			return nil, fmt.Errorf("llm: tool %s: registered twice", t.Name)
		}
		if len(t.Parameters) == 0 {
			t.Parameters = json.RawMessage(`{"type":"object"}`)
		}
		check, err := CompileSchema(t.Parameters)
		if err != nil {
			return nil, fmt.Errorf("llm: tool %s: %w", t.Name, err)
		}
		byName[t.Name] = registered{t, check}
	}
	return byName, nil
}

// CompileSchema compiles a JSON Schema (2020-12) into a check of JSON values:
// the function for webtrigger.Options.CompileSchema. References to other
// documents are refused. Numbers are compared as 64-bit floats.
func CompileSchema(schema json.RawMessage) (func(json.RawMessage) error, error) {
	var s jsonschema.Schema
	if err := json.Unmarshal(schema, &s); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		return nil, fmt.Errorf("resolve schema: %w", err)
	}
	return func(value json.RawMessage) error {
		var v any
		if err := json.Unmarshal(value, &v); err != nil {
			return errors.New("not valid JSON")
		}
		return resolved.Validate(v)
	}, nil
}
