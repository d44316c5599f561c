package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// CompileSchema compiles a JSON Schema (draft 2020-12, or draft-07 where
// $schema says so) into a check of JSON texts. It is what
// [webtrigger.Options.CompileSchema] asks for, and what an Agent checks tool
// arguments with.
//
// A schema is refused when it is no JSON object or boolean, has a keyword of
// the wrong type or a pattern that Go's regexp cannot compile, names another
// draft, refers to something outside itself (nothing is ever loaded), or refers
// to itself without descending into the value, which would never end. Unknown
// keywords and format are not judged.
//
// The check's error names up to five violations, each with its place in the
// value as a JSON Pointer, in at most a few KiB. Integers of up to 64 bits are
// compared exactly; all other numbers as float64, and one that is too large for
// that is refused. The check is safe for concurrent use. How long it takes is
// up to the schema: whoever may write one is trusted that far.
func CompileSchema(schema json.RawMessage) (check func(result json.RawMessage) error, err error) {
	defer recovered(&err)
	if c := firstByte(schema); c != '{' && c != 't' && c != 'f' {
		return nil, errors.New("must be a JSON object or a boolean")
	}
	raw, err := decode(schema)
	if err != nil {
		return nil, err
	}
	root := new(jsonschema.Schema)
	if err := json.Unmarshal(schema, root); err != nil {
		return nil, limited(err)
	}
	switch root.Schema {
	case "", "https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft-07/schema#":
	default:
		return nil, limited(fmt.Errorf("$schema %q is not supported: use draft 2020-12", root.Schema))
	}
	g, err := newGraph(root, raw)
	if err != nil {
		return nil, limited(err)
	}
	resolved, err := root.Resolve(nil)
	if err != nil {
		return nil, limited(err)
	}
	finder := sync.OnceValue(func() *finder { return newFinder(g) })
	return func(result json.RawMessage) (err error) {
		defer recovered(&err)
		value, err := decode(result)
		if err != nil {
			return err
		}
		if err := resolved.Validate(value); err != nil {
			return limited(finder().explain(value, err))
		}
		return nil
	}, nil
}

// decode reads one JSON value into the types that jsonschema judges rightly: a
// json.Number is a string to it, and a float64 loses the end of large integers.
func decode(raw []byte) (any, error) {
	v, err := parseJSON(raw)
	if err != nil {
		return nil, limited(fmt.Errorf("is not valid JSON: %w", err))
	}
	return numbers(v)
}

// parseJSON reads one JSON value with its numbers as they are. What two readers
// could take for different values is refused: a key twice in one object, invalid
// UTF-8, half a surrogate pair.
func parseJSON(raw []byte) (any, error) {
	if _, err := strictjson.Value(raw); err != nil {
		var syntax *strictjson.SyntaxError
		if errors.As(err, &syntax) {
			err = errors.New(syntax.Detail)
		}
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil { // more levels than encoding/json takes
		return nil, limited(err)
	}
	return v, nil
}

func numbers(v any) (_ any, err error) {
	switch v := v.(type) {
	case json.Number:
		return number(v)
	case []any:
		for i := range v {
			if v[i], err = numbers(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for key := range v {
			if v[key], err = numbers(v[key]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

func number(n json.Number) (any, error) {
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
		return u, nil
	}
	f, err := n.Float64()
	if err != nil {
		return nil, limited(fmt.Errorf("the number %s is too large to be checked", wire.Truncate(n.String(), 64)))
	}
	return f, nil
}

// maxSchemaError bounds an error's text, in bytes.
const maxSchemaError = 4 << 10

// firstByte is the first byte of a JSON text that is not white space; 0: none.
func firstByte(raw []byte) byte {
	for _, c := range raw {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

// limited is err with a text of bounded size. It keeps the text only.
func limited(err error) error {
	text := wire.ValidText(err.Error())
	text = strings.ReplaceAll(text, "\n", " ")
	if len(text) > maxSchemaError {
		text = wire.Truncate(text, maxSchemaError) + " …"
	}
	return errors.New(text)
}

// recovered turns a panic of the schema package into an error: what a stored
// schema says must not end a worker's run as a crash.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = limited(fmt.Errorf("the schema cannot be used: %v", v))
	}
}
