package openai_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/openai"
)

// Whatever the schema, the first request is one that the vendor takes.
func FuzzSchema(f *testing.F) {
	for _, s := range []string{
		`{"type":"object","properties":{"a":{"type":"string","minLength":1}},"required":["a"]}`,
		`{"anyOf":[{"type":"array","items":{"enum":[1,null]}},{"$ref":"#/$defs/x"}],"$defs":{"x":{"type":"null"}}}`,
		`{"oneOf":[{"type":"object","properties":{"\u0000":{"const":"\ud800"}}}]}`, `{"type":"object"} {"a"`, `{`, `[]`, `true`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, schema string) {
		fake := modeltest.NewOpenAI(key, modeltest.OpenAIText("{}"))
		client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			fake.ServeHTTP(w, r)
			return w.Result(), nil
		})}
		model, err := openai.New(key, &openai.Options{HTTPClient: client})
		if err != nil {
			t.Fatal(err)
		}
		_, err = model.Generate(t.Context(), structured(schema), func(llm.Chunk) error { return nil })
		if err != nil || len(fake.Requests()) != 1 {
			t.Fatalf("%d requests, %v", len(fake.Requests()), err)
		}
	})
}
