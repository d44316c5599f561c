package openai_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/openai"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "sk-test-0123456789abcdef"

// vendor is a fake server and a model that talks to it.
type vendor struct {
	*modeltest.Server
	model *openai.Model
	log   *buffer
}

// serve starts a fake server on a socket. Failed calls are not repeated, unless
// opts say how.
func serve(t *testing.T, opts *openai.Options, turns ...modeltest.Turn) *vendor {
	t.Helper()
	fake := modeltest.NewOpenAI(key, turns...)
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	return connect(t, fake, server.Client(), server.URL+"/v1", opts)
}

// pipe is serve over pipes, for a synctest bubble. Failed calls are repeated.
func pipe(t *testing.T, opts *openai.Options, turns ...modeltest.Turn) *vendor {
	t.Helper()
	fake := modeltest.NewOpenAI(key, turns...)
	client, stop := modeltest.NewNetwork().Serve(fake)
	t.Cleanup(stop)
	if opts == nil {
		opts = &openai.Options{Retry: new(llm.RetryOptions)}
	}
	return connect(t, fake, client, "http://openai.example/v1", opts)
}

func connect(t *testing.T, fake *modeltest.Server, client *http.Client, base string, opts *openai.Options) *vendor {
	t.Helper()
	var o openai.Options
	if opts != nil {
		o = *opts
	}
	log := new(buffer)
	if o.Retry == nil {
		o.Retry = &llm.RetryOptions{MaxAttempts: 1}
	}
	o.Retry.Logger = slog.New(slog.NewJSONHandler(log, nil))
	o.BaseURL, o.HTTPClient = base, client
	model, err := openai.New(key, &o)
	require.NoError(t, err)
	return &vendor{Server: fake, model: model, log: log}
}

// said is one call's answer and what it streamed.
type said struct {
	*llm.Response
	pieces []string
}

func (v *vendor) ask(ctx context.Context, req *llm.Request) (said, error) {
	var s said
	response, err := v.model.Generate(ctx, req, func(c llm.Chunk) error {
		s.pieces = append(s.pieces, c.Text)
		return nil
	})
	s.Response = response
	return s, err
}

// must asks and gets an answer, whose pieces are its text.
func (v *vendor) must(t *testing.T, req *llm.Request) said {
	t.Helper()
	s, err := v.ask(t.Context(), req)
	require.NoError(t, err)
	if len(s.pieces) > 0 {
		require.Equal(t, s.Text, strings.Join(s.pieces, ""))
	}
	require.NotContains(t, s.pieces, "")
	return s
}

// fail asks and gets an error of the vendor's, which shows no key.
func (v *vendor) fail(t *testing.T, req *llm.Request) *llm.Error {
	t.Helper()
	_, err := v.ask(t.Context(), req)
	failure := new(llm.Error)
	require.ErrorAs(t, err, &failure)
	require.NotContains(t, failure.Error()+failure.Detail+v.log.String(), key)
	return failure
}

// last is the body of the last request.
func (v *vendor) last() map[string]any {
	requests := v.Requests()
	return requests[len(requests)-1].Body
}

func hello() *llm.Request {
	return &llm.Request{Messages: []llm.Message{{Role: webtrigger.RoleUser, Content: "hello"}}}
}

func withTools(req *llm.Request) *llm.Request {
	req.Tools = []llm.ToolSpec{
		{Name: "search", Description: "Searches.", Parameters: json.RawMessage(`{"type":"object","properties":{"q":{"type":"string"},"a":{"type":"integer"}}}`)},
		{Name: "clock", Parameters: json.RawMessage(`{"type":"object"}`)},
	}
	return req
}

// buffer is a log for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
