package modeltest

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/llm"
)

// Vendor is a fake server and a model that talks to it.
type Vendor struct {
	*Server
	Model llm.LLM
	Key   string // the API key, which appears nowhere
	Log   *logtest.Buffer
}

// Received is the answer of one call and the pieces that it streamed.
type Received struct {
	*llm.Response
	Pieces []string
}

// Ask calls the model.
func (v *Vendor) Ask(ctx context.Context, req *llm.Request) (Received, error) {
	var s Received
	response, err := v.Model.Generate(ctx, req, func(c llm.Chunk) error {
		s.Pieces = append(s.Pieces, c.Text)
		return nil
	})
	s.Response = response
	return s, err
}

// Must asks and gets an answer, whose pieces are its text.
func (v *Vendor) Must(t *testing.T, req *llm.Request) Received {
	t.Helper()
	s, err := v.Ask(t.Context(), req)
	require.NoError(t, err)
	if len(s.Pieces) > 0 {
		require.Equal(t, s.Text, strings.Join(s.Pieces, ""))
	}
	require.NotContains(t, s.Pieces, "")
	return s
}

// Fail asks and gets an error of the vendor's, which shows no key.
func (v *Vendor) Fail(t *testing.T, req *llm.Request) *llm.Error {
	t.Helper()
	_, err := v.Ask(t.Context(), req)
	failure := new(llm.Error)
	require.ErrorAs(t, err, &failure)
	require.NotContains(t, failure.Error()+failure.Detail+v.Log.String(), v.Key)
	return failure
}

// Last is the body of the last request.
func (v *Vendor) Last() map[string]any {
	requests := v.Requests()
	return requests[len(requests)-1].Body
}

// Hello is a request of one message.
func Hello() *llm.Request {
	return &llm.Request{Messages: []llm.Message{{Role: webtrigger.RoleUser, Content: "hello"}}}
}

// WithTools adds two tools to a request.
func WithTools(req *llm.Request) *llm.Request {
	req.Tools = []llm.ToolSpec{
		{Name: "search", Description: "Searches.", Parameters: json.RawMessage(`{"type":"object","properties":{"q":{"type":"string"},"a":{"type":"integer"}}}`)},
		{Name: "clock", Parameters: json.RawMessage(`{"type":"object"}`)},
	}
	return req
}

// Cancelled calls a model in a synctest bubble, cancels with a cause when
// everything waits, and sees to it that the call returns with it at once.
func Cancelled(t *testing.T, model llm.LLM, cause error) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := model.Generate(ctx, WithTools(Hello()), func(llm.Chunk) error { return nil })
		done <- err
	}()
	synctest.Wait()
	select {
	case err := <-done:
		t.Fatalf("returned early: %v", err)
	default:
	}
	began := time.Now()
	cancel(cause)
	require.Equal(t, cause, <-done)
	require.Less(t, time.Since(began), 100*time.Millisecond)
}
