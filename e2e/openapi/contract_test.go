package openapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

// exchange is one request and its answer.
type exchange struct {
	name           string
	method, target string // the target is absolute
	request        http.Header
	requestBody    []byte
	status         int
	answer         http.Header
	answerBody     []byte
}

// contract checks exchanges against one OpenAPI 3.1 document. Its schemas are JSON
// Schemas (2020-12), so it needs only a validator for those.
type contract struct {
	document map[string]any
	compiler *jsonschema.Compiler

	mu   sync.Mutex
	seen map[string]bool // "METHOD path status code" of checked exchanges
}

// commonHeaders may be on any answer.
var commonHeaders = []string{"Content-Type", "Content-Length", "Cache-Control", "Date", "Vary", "X-Content-Type-Options"}

func newContract(t *testing.T, document []byte) *contract {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	require.NoError(t, err)
	c := &contract{document: parsed.(map[string]any), compiler: jsonschema.NewCompiler(), seen: make(map[string]bool)}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	require.NoError(t, c.compiler.AddResource("openapi.json", parsed))
	return c
}

// check returns the faults of an exchange. It has none if the document describes the
// response and, unless the response is an error, the request.
func (c *contract) check(x exchange) (faults []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := c.path(x.target)
	if path == "" {
		if x.status != http.StatusNotFound {
			return []string{fmt.Sprintf("an undocumented path is answered with %d", x.status)}
		}
		path = "/api/v1/web-triggers/{trigger_id}/status" // any that has the 404
	}
	method := "get" // HEAD is answered like it; so is what gets a 405
	operation := dig(c.document, "paths", path, method)
	if operation == nil {
		method = "post"
		operation = dig(c.document, "paths", path, method)
	}
	at := []string{"paths", path, method}
	if x.status < 400 {
		if !strings.EqualFold(x.method, method) && x.method != http.MethodHead {
			faults = append(faults, "an undocumented method is accepted: "+x.method)
		}
		faults = append(faults, c.request(at, path, operation, x)...)
	}
	return append(faults, c.answered(at, path, x)...)
}

// request holds a request that was accepted to its operation.
func (c *contract) request(at []string, path string, operation map[string]any, x exchange) (faults []string) {
	target, err := url.Parse(x.target)
	if err != nil {
		return []string{err.Error()}
	}
	query := target.Query()
	given := make(map[string]string)
	segments := strings.Split(target.Path, "/")
	for i, s := range strings.Split(path, "/") {
		if strings.HasPrefix(s, "{") {
			given["path "+strings.Trim(s, "{}")] = segments[i]
		}
	}
	for name, values := range query {
		given["query "+name] = values[0]
	}
	listed, _ := dig(c.document, "paths", path)["parameters"].([]any)
	own, _ := operation["parameters"].([]any)
	for _, p := range append(slices.Clone(listed), own...) {
		ref, _ := p.(map[string]any)["$ref"].(string)
		where := pointer(ref)
		parameter := dig(c.document, where...)
		name, in := parameter["name"].(string), parameter["in"].(string)
		value, ok := given[in+" "+name]
		delete(given, in+" "+name)
		if in == "header" {
			value, ok = x.request.Get(name), x.request.Get(name) != ""
		}
		if !ok {
			if parameter["required"] == true {
				faults = append(faults, "no parameter "+name)
			}
			continue
		}
		faults = append(faults, c.text(append(where, "schema"), value, "parameter "+name)...)
	}
	for name := range given {
		faults = append(faults, "an undocumented parameter is accepted: "+name)
	}
	if operation["requestBody"] != nil {
		where := append(slices.Clone(at), "requestBody", "content", "application/json", "schema")
		faults = append(faults, c.json(where, x.requestBody, "request")...)
	}
	return faults
}

// answered holds an answer to the response of its status.
func (c *contract) answered(at []string, path string, x exchange) (faults []string) {
	where := append(slices.Clone(at), "responses", strconv.Itoa(x.status))
	response := dig(c.document, where...)
	if response == nil {
		return []string{fmt.Sprintf("%s has no answer %d", path, x.status)}
	}
	if ref, ok := response["$ref"].(string); ok {
		where = pointer(ref)
		response = dig(c.document, where...)
	}
	headers := dig(response, "headers")
	for name := range x.answer {
		known := slices.ContainsFunc(commonHeaders, func(h string) bool { return strings.EqualFold(h, name) })
		documented := false
		for h, header := range headers {
			if strings.EqualFold(h, name) {
				documented = true
				ref, _ := header.(map[string]any)["$ref"].(string)
				faults = append(faults, c.text(append(pointer(ref), "schema"), x.answer.Get(name), "header "+name)...)
			}
		}
		if !known && !documented {
			faults = append(faults, "an undocumented header: "+name)
		}
	}
	for h, header := range headers {
		ref, _ := header.(map[string]any)["$ref"].(string)
		if dig(c.document, pointer(ref)...)["required"] == true && x.answer.Get(h) == "" {
			faults = append(faults, "no header "+h)
		}
	}
	code, more := c.body(where, response, x)
	c.seen[strings.TrimSpace(fmt.Sprintf("%s %s %d %s", strings.ToUpper(at[2]), path, x.status, code))] = true
	return append(faults, more...)
}

// body checks the response's body and returns the code of a problem.
func (c *contract) body(where []string, response map[string]any, x exchange) (code string, faults []string) {
	content := dig(response, "content")
	if len(content) == 0 || x.method == http.MethodHead {
		if len(content) == 0 && len(x.answerBody) > 0 {
			faults = append(faults, "an undocumented body")
		}
		return "", faults
	}
	media := x.answer.Get("Content-Type")
	if content[media] == nil {
		return "", []string{"an undocumented media type: " + media}
	}
	if media == "text/event-stream" {
		return "", c.frames(x.answerBody)
	}
	faults = c.json(append(slices.Clone(where), "content", media, "schema"), x.answerBody, "answer")
	if media == "application/problem+json" {
		var problem struct{ Code string }
		if err := json.Unmarshal(x.answerBody, &problem); err != nil {
			return "", append(faults, err.Error())
		}
		code = problem.Code
		if dig(response, "content", media, "examples")[code] == nil {
			faults = append(faults, fmt.Sprintf("the answer %d does not list the code %s", x.status, code))
		}
	}
	return code, faults
}

// frames holds each event of a stream to the schema Event.
func (c *contract) frames(stream []byte) (faults []string) {
	for line := range strings.Lines(string(stream)) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			faults = append(faults, c.json([]string{"components", "schemas", "Event"}, []byte(data), "event")...)
		}
	}
	return faults
}

// json holds a JSON text to the schema at a place of the document.
func (c *contract) json(where []string, text []byte, what string) []string {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return []string{what + ": " + err.Error()}
	}
	return c.value(where, value, what)
}

// text holds a parameter or header to a schema: as an integer where it is one.
func (c *contract) text(where []string, text, what string) []string {
	if dig(c.document, where...)["type"] == "integer" {
		return c.value(where, json.Number(text), what)
	}
	return c.value(where, text, what)
}

func (c *contract) value(where []string, value any, what string) []string {
	var fragment strings.Builder
	for _, k := range where {
		fragment.WriteString("/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(k)))
	}
	schema, err := c.compiler.Compile("openapi.json#" + fragment.String())
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		return []string{what + ": " + err.Error()}
	}
	return nil
}

// path is the documented path that a target has, or "".
func (c *contract) path(target string) string {
	parsed, err := url.Parse(target)
	if err != nil {
		return ""
	}
	segments := strings.Split(strings.TrimSuffix(parsed.Path, "/"), "/") // the service accepts a slash at the end
	for path := range dig(c.document, "paths") {
		if slices.EqualFunc(strings.Split(path, "/"), segments, func(w, s string) bool { return w == s || strings.HasPrefix(w, "{") && s != "" }) {
			return path
		}
	}
	return ""
}

// pointer is the place that a local $ref names.
func pointer(ref string) []string { return strings.Split(strings.TrimPrefix(ref, "#/"), "/") }

func dig(node map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		node, _ = node[k].(map[string]any)
	}
	return node
}
