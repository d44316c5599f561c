package adaptertest

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
)

// FuzzSchema holds that the first request with an output schema is one that the service
// accepts.
func FuzzSchema(f *testing.F, d Dialect) {
	for _, s := range []string{
		`{"type":"object","properties":{"a":{"type":"string","minLength":1}},"required":["a"]}`,
		`{"anyOf":[{"type":"array","items":{"enum":[1,null]}},{"$ref":"#/$defs/x"}],"$defs":{"x":{"type":"null"}}}`,
		`{"oneOf":[{"type":"object","properties":{"\u0000":{"const":"\ud800"}}}]}`, `{"type":"object"} {"a"`, `{`, `[]`, `true`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, schema string) {
		fake := modeltest.NewServer(d.Check, d.turn(Answer{Text: []string{"{}"}}))
		model := d.direct(t, func(r *http.Request) *http.Response {
			w := httptest.NewRecorder()
			fake.ServeHTTP(w, r)
			return w.Result()
		})
		req := modeltest.Hello()
		req.Output = llm.OutputFormat{Type: webtrigger.OutputJSON, Schema: json.RawMessage(schema)}
		_, err := model.Generate(t.Context(), req, func(llm.Chunk) error { return nil })
		if err != nil || len(fake.Requests()) != 1 {
			t.Fatalf("%d requests, %v", len(fake.Requests()), err)
		}
	})
}

// FuzzStream holds what is true of every response: there is an answer or an error, the
// text is what was streamed, and ids are unique.
func FuzzStream(f *testing.F, d Dialect, seeds ...string) {
	for _, a := range []Answer{{Text: []string{"hi"}, Thinking: []string{"hm"}}, {Calls: []Call{{"x", `{"a":1}`}, {"x", `{`}}}} {
		w := httptest.NewRecorder()
		modeltest.NewServer(func(*http.Request, map[string]any) *modeltest.Rejection { return nil }, d.turn(a)).
			ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")))
		f.Add(w.Body.String())
	}
	for _, s := range append(seeds, ": comment\n\ndata:\n\n", "event: error\ndata: null\n\n", `{"error":"x"}`, `[{"error":{}}]`) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, stream string) {
		model := d.direct(t, func(r *http.Request) *http.Response {
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body{strings.NewReader(stream)}, Request: r}
		})
		var streamed strings.Builder
		response, err := model.Generate(t.Context(), modeltest.Hello(), func(c llm.Chunk) error {
			streamed.WriteString(c.Text)
			return nil
		})
		switch {
		case err != nil && response != nil:
			t.Fatal("an answer and an error")
		case err != nil && !errors.As(err, new(*llm.Error)):
			t.Fatalf("not an error of a vendor: %v", err)
		case err != nil:
			return
		case response.Text != streamed.String():
			t.Fatalf("streamed %q of %q", streamed.String(), response.Text)
		}
		ids := make(map[string]bool)
		for _, c := range response.ToolCalls {
			if c.ID == "" || ids[c.ID] {
				t.Fatalf("the id %q", c.ID)
			}
			ids[c.ID] = true
		}
	})
}

// direct returns a model whose requests are answered without a network.
func (d Dialect) direct(t *testing.T, answer func(r *http.Request) *http.Response) llm.LLM {
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		defer r.Body.Close()
		return answer(r), nil
	})}
	model, err := d.New(Connection{BaseURL: "http://vendor.example", Client: client, Retry: &llm.RetryOptions{MaxAttempts: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return model
}

type body struct{ *strings.Reader }

func (body) Close() error { return nil }
