package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
)

// CompileSchema compiles a JSON Schema into a check of JSON texts. It fits
// [webtrigger.Options.CompileSchema]. The draft is 2020-12, or draft-07 if $schema
// names it.
//
// It rejects a schema that is not a JSON object or a boolean, has a keyword of the
// wrong form, has a pattern that Go's regexp does not support, names another draft,
// or refers to a schema outside itself: nothing is ever loaded. It also rejects a
// schema that refers to itself without descending into the value. The error names
// the keyword and its place in the schema as a JSON Pointer. Unknown keywords and
// format are not checked.
//
// The error of the check names up to five violations, each with its place in the
// value as a JSON Pointer, in at most a few KiB. Integers of up to 64 bits are
// compared exactly. All other numbers are compared as float64, and the check rejects
// a number that is too large for it. The check is safe for concurrent use. Its
// duration depends on the schema, so accept schemas from trusted authors only.
func CompileSchema(schema json.RawMessage) (check func(result json.RawMessage) error, err error) {
	defer recovered(&err)
	if c := firstByte(schema); c != '{' && c != 't' && c != 'f' {
		return nil, errors.New("must be a JSON object or a boolean")
	}
	if _, err := parseJSON(schema); err != nil {
		return nil, invalidJSON("is not valid JSON", err)
	}
	root, err := schemadoc.Parse(schema)
	if err != nil {
		return nil, err
	}
	if draft := schemadoc.Draft(root); !slices.Contains(supported, draft) {
		return nil, limited(fmt.Errorf("%s: $schema %q is not supported: use draft 2020-12", place(""), root.Get("$schema").Text))
	}
	for _, loss := range translate(root) {
		return nil, limited(fmt.Errorf("%s: %s %s", place(loss.Path), loss.Keyword, loss.Reason))
	}
	return build(root.JSON())
}

// build compiles a translated schema.
func build(schema json.RawMessage) (check func(value json.RawMessage) error, err error) {
	raw, err := decode(schema)
	if err != nil {
		return nil, err
	}
	root := new(jsonschema.Schema)
	if err := json.Unmarshal(schema, root); err != nil {
		return nil, limited(err)
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

// decode reads one JSON value into the types that jsonschema validates correctly: it
// treats a json.Number as a string, and a float64 loses the digits of large integers.
func decode(raw []byte) (any, error) {
	v, err := parseJSON(raw)
	if err != nil {
		return nil, invalidJSON("is not valid JSON", err)
	}
	return numbers(v)
}

// invalidJSON returns an error of parseJSON as a part of a sentence.
func invalidJSON(what string, err error) error {
	return limited(fmt.Errorf("%s: %s", what, strings.TrimSuffix(err.Error(), ".")))
}

// parseJSON reads one JSON value with its numbers as they are. It rejects texts that two
// readers could read differently: a key twice in one object, invalid UTF-8, half a
// surrogate pair.
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
	if err := dec.Decode(&v); err != nil { // more levels than encoding/json accepts
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

// maxSchemaError is the maximum size of an error's text, in bytes.
const maxSchemaError = 4 << 10

// firstByte returns the first byte of a JSON text that is not white space, or 0.
func firstByte(raw []byte) byte {
	for _, c := range raw {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

// limited returns an error with the text of err, cut to maxSchemaError.
func limited(err error) error {
	text := wire.ValidText(err.Error())
	text = strings.ReplaceAll(text, "\n", " ")
	if len(text) > maxSchemaError {
		text = wire.Truncate(text, maxSchemaError) + " …"
	}
	return errors.New(text)
}

// recovered turns a panic of the jsonschema package into an error: a stored schema must
// not crash a run.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = limited(fmt.Errorf("schema cannot be used: %v", v))
	}
}
