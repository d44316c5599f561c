// Package adaptertest is the conformance suite of the adapters in llm/openai and
// llm/anthropic. It runs the same scenarios against fakes of the services that speak
// the two APIs. Each fake writes answers in the manner of its service, and rejects the
// requests that the service rejects.
package adaptertest

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
)

// Key is the API key of all fakes.
const Key = "sk-test-0123456789abcdef"

// Connection is everything that an adapter needs to reach a fake.
type Connection struct {
	BaseURL string // without the path that the API adds
	Client  *http.Client
	Retry   *llm.RetryOptions
	Model   string // "": the adapter's default
}

// Dialect is the manner of one service.
type Dialect struct {
	Name string

	// New returns a model that speaks to the service.
	New func(c Connection) (llm.LLM, error)

	// Check rejects requests that the service rejects.
	Check modeltest.Check

	// Play writes an answer.
	Play func(w *modeltest.Wire, a Answer)

	// Fail writes an error in the middle of a stream.
	Fail func(w *modeltest.Wire, f Failure)

	// Reasons are the service's words, by meaning.
	Reasons map[End][]string

	// Document is true if the service does not stream: an answer is one document.
	Document bool
}

// Answer is the answer of a model in no vendor's words.
type Answer struct {
	Thinking []string
	Text     []string
	Calls    []Call
	Reason   string                  // the service's word; "": its usual one
	NoReason bool                    // the service gives none
	Then     func(w *modeltest.Wire) // in place of the end; nil: a proper end
}

// Call is a tool call.
type Call struct{ Name, Arguments string }

// Failure is an error.
type Failure struct {
	Status  int
	Type    string // in the spelling of OpenAI's errors
	Message string
}

// End is the meaning of a finish reason.
type End int

// The meanings of finish reasons.
const (
	Length End = iota
	Refusal
	Broken
)

// Run runs the suite on a dialect.
func Run(t *testing.T, d Dialect) {
	t.Run(d.Name, func(t *testing.T) {
		t.Parallel()
		for _, s := range scenarios {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				s.run(t, d)
			})
		}
	})
}

var scenarios = []struct {
	name string
	run  func(t *testing.T, d Dialect)
}{
	{"text", text},
	{"text at once", atOnce},
	{"conversation with tools", conversation},
	{"mistakes of the model", mistakes},
	{"odd tools", oddTools},
	{"thinking", thinking},
	{"finish reasons", finishReasons},
	{"no finish reason", noReason},
	{"structured output", structured},
	{"errors in the stream", streamErrors},
	{"rejected requests", rejected},
	{"wrong key", wrongKey},
	{"retries", retries},
	{"no retry after text", noRetryAfterText},
	{"cancel", cancel},
	{"deadline", deadline},
	{"redirect", redirect},
	{"the caller stops", callerStops},
	{"too large", tooLarge},
}

// turn is an answer as a turn of the fake.
func (d Dialect) turn(a Answer) modeltest.Turn {
	return func(w *modeltest.Wire) { d.Play(w, a) }
}

// serve starts a fake on a socket. Failed calls are not repeated.
func (d Dialect) serve(t *testing.T, turns ...modeltest.Turn) *modeltest.Vendor {
	t.Helper()
	fake := modeltest.NewServer(d.Check, turns...)
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	return d.connect(t, fake, Connection{BaseURL: server.URL, Client: server.Client(), Retry: &llm.RetryOptions{MaxAttempts: 1}})
}

// pipe starts a fake on pipes, for a synctest bubble. Failed calls are repeated.
func (d Dialect) pipe(t *testing.T, retry *llm.RetryOptions, turns ...modeltest.Turn) *modeltest.Vendor {
	t.Helper()
	fake := modeltest.NewServer(d.Check, turns...)
	client, stop := modeltest.NewNetwork().Serve(fake)
	t.Cleanup(stop)
	return d.connect(t, fake, Connection{BaseURL: "http://vendor.example", Client: client, Retry: retry})
}

func (d Dialect) connect(t *testing.T, fake *modeltest.Server, c Connection) *modeltest.Vendor {
	t.Helper()
	log := new(logtest.Buffer)
	c.Retry.Logger = slog.New(slog.NewJSONHandler(log, nil))
	model, err := d.New(c)
	require.NoError(t, err)
	return &modeltest.Vendor{Server: fake, Model: model, Key: Key, Log: log}
}
