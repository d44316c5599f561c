package openai_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/openai"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "sk-test-0123456789abcdef"

// serve starts a fake server on a socket. Failed calls are not repeated, unless
// opts set Retry.
func serve(t *testing.T, opts *openai.Options, turns ...modeltest.Turn) *modeltest.Vendor {
	t.Helper()
	fake := modeltest.NewOpenAI(key, turns...)
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	return connect(t, fake, server.Client(), server.URL+"/v1", opts)
}

func connect(t *testing.T, fake *modeltest.Server, client *http.Client, base string, opts *openai.Options) *modeltest.Vendor {
	t.Helper()
	var o openai.Options
	if opts != nil {
		o = *opts
	}
	log := new(logtest.Buffer)
	if o.Retry == nil {
		o.Retry = &llm.RetryOptions{MaxAttempts: 1}
	}
	o.Retry.Logger = slog.New(slog.NewJSONHandler(log, nil))
	o.BaseURL, o.HTTPClient = base, client
	model, err := openai.New(key, &o)
	require.NoError(t, err)
	return &modeltest.Vendor{Server: fake, Model: model, Key: key, Log: log}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
