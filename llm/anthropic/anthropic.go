// Package anthropic has the models of Anthropic, and of servers that speak its messages
// API.
//
//	model, err := anthropic.New(os.Getenv("ANTHROPIC_API_KEY"), nil)
//	agent, err := llm.NewAgent(model, &llm.AgentOptions{Tools: tools})
//
// It depends on the standard library only and reads no environment variables. Values
// that the neutral types of package llm do not carry go into requests by
// Options.Header, Options.Query and Options.Body.
package anthropic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

// Defaults of Options.
const (
	// DefaultModel is the vendor's middle one, made for agents.
	DefaultModel = "claude-sonnet-5-5"

	// DefaultMaxTokens leaves room for long answers and for thinking. Each model of the
	// vendor since Claude 4 can write as much.
	DefaultMaxTokens = 32_000
)

const (
	defaultBaseURL = "https://api.anthropic.com"
	version        = "2023-06-01" // of the API
)

// Options has a default for every field.
type Options struct {
	// BaseURL is the URL of the API, up to and without /v1/messages. If empty, it is
	// https://api.anthropic.com.
	BaseURL string

	// Model names the model. If empty, it is DefaultModel.
	Model string

	// MaxTokens bounds one answer, including the model's thinking, in tokens. If zero,
	// it is DefaultMaxTokens. An answer that reaches it ends with llm.FinishLength.
	MaxTokens int

	// Effort is how much work goes into an answer, in the vendor's words, such as low,
	// medium or high. If empty, it is the model's default.
	Effort string

	// IdleTimeout is how long the vendor may be silent, before its answer and within
	// it. If zero, it is 5 minutes.
	IdleTimeout time.Duration

	// Retry is how attempts are repeated that failed for a temporary reason, and where
	// they are logged. If nil, the defaults of llm.RetryOptions apply.
	Retry *llm.RetryOptions

	// HTTPClient sends the requests. Redirects are never followed, and its CheckRedirect
	// is not used. If nil, it is http.DefaultClient.
	HTTPClient *http.Client

	// Header has further header fields of all requests, such as Anthropic-Beta. They
	// replace those of the package.
	Header http.Header

	// Query is the query of the URL.
	Query url.Values

	// Body has further fields of the body of all requests, such as thinking. They
	// replace those of the package. A field that is null is not sent.
	Body map[string]json.RawMessage
}

// Model is a model behind the messages API. It is safe for concurrent use.
//
// Usage counts all input, whether it was read from the vendor's prompt cache, written to
// it, or neither.
type Model struct {
	retrier *llm.Retrier
}

var _ llm.LLM = (*Model)(nil)

// New returns a Model. The key may be empty if BaseURL is set, for keys in
// Options.Header. The options may be nil and are copied. New returns an error if a key,
// a header field or a URL cannot be used; the error does not show it. New sends nothing.
func New(apiKey string, opts *Options) (*Model, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	c, err := newCaller(apiKey, o)
	if err != nil {
		return nil, fmt.Errorf("anthropic: %w", err)
	}
	return &Model{retrier: llm.NewRetrier(c, o.Retry)}, nil
}

// Generate asks the model, and asks again if the vendor rejects a request for a
// temporary reason; see llm.LLM and llm.Retrier.
func (m *Model) Generate(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	return m.retrier.Generate(ctx, req, stream)
}

// caller makes one attempt.
type caller struct {
	vendor *vendorhttp.Vendor
	tools  *vendorhttp.Toolbox
	client *http.Client
	url    string
	header http.Header
	opts   Options
}

func newCaller(apiKey string, o Options) (*caller, error) {
	if apiKey == "" && o.BaseURL == "" {
		return nil, errors.New("an API key is needed")
	}
	if o.MaxTokens < 0 {
		return nil, errors.New("MaxTokens must not be negative")
	}
	if o.BaseURL == "" {
		o.BaseURL = defaultBaseURL
	}
	if o.Model == "" {
		o.Model = DefaultModel
	}
	if o.MaxTokens == 0 {
		o.MaxTokens = DefaultMaxTokens
	}
	address, err := vendorhttp.Endpoint(o.BaseURL, "v1/messages", o.Query)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Anthropic-Version": {version}}
	if apiKey != "" {
		header.Set("X-Api-Key", apiKey)
	}
	if err := vendorhttp.AddHeader(header, apiKey, o.Header); err != nil {
		return nil, err
	}
	if o.Body, err = vendorhttp.CheckBody(o.Body); err != nil {
		return nil, err
	}
	config := vendorhttp.Config{Name: "anthropic", Key: apiKey, Header: o.Header, Query: o.Query, Idle: o.IdleTimeout}
	if o.Retry != nil {
		config.Logger = o.Retry.Logger
	}
	vendor := vendorhttp.NewVendor(config)
	return &caller{vendor: vendor, tools: vendorhttp.NewToolbox(vendor, vendortool.Anthropic), client: vendorhttp.Client(o.HTTPClient), url: address, header: header, opts: o}, nil
}

// Generate asks, and asks once more without a native output format if the format may be
// the reason of a rejection: not every schema can be compiled, and the answer is checked
// anyway. That is not a failure and takes no time.
func (c *caller) Generate(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	native := nativeSchema(req.Output)
	response, err := c.ask(ctx, req, native, stream)
	rejected := new(vendorhttp.Rejected)
	if native != nil && errors.As(err, &rejected) && rejected.Form() {
		return c.ask(ctx, req, nil, stream)
	}
	return response, err
}

// ask sends one request.
func (c *caller) ask(ctx context.Context, req *llm.Request, native json.RawMessage, stream func(llm.Chunk) error) (*llm.Response, error) {
	set := c.tools.Fit(req.Tools)
	body, err := c.body(req, set, native)
	if err != nil {
		return nil, err
	}
	call := c.vendor.Begin(ctx)
	defer call.End()
	events, err := call.Post(c.client, c.url, c.header, body)
	if err != nil {
		return nil, err
	}
	answer := newAnswer(call, req, set, stream)
	if err := answer.Read(events, "type", answer.add); err != nil {
		return nil, err
	}
	return answer.response()
}
