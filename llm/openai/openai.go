// Package openai has the models of OpenAI and of every server that speaks its chat
// completions API: Azure, OpenRouter, Gemini, Mistral, vLLM, Ollama and many more.
//
//	model, err := openai.New(os.Getenv("OPENAI_API_KEY"), nil)
//	agent, err := llm.NewAgent(model, &llm.AgentOptions{Tools: tools})
//
// It depends on the standard library only and reads no environment variables. Values
// that the neutral types of package llm do not carry go into requests by
// Options.Header, Options.Query and Options.Body.
package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

// DefaultModel is the model unless Options name one. It is the newest of OpenAI's models
// that call tools over this API without an option that disables reasoning.
const DefaultModel = "gpt-5.4"

const defaultBaseURL = "https://api.openai.com/v1"

// Options has a default for every field.
type Options struct {
	// BaseURL is the URL of the API, up to and without /chat/completions. If empty, it
	// is https://api.openai.com/v1.
	BaseURL string

	// Model names the model. If empty, it is DefaultModel.
	Model string

	// MaxTokens bounds one answer, including the model's thinking, in tokens. It is sent
	// as max_completion_tokens, or as max_tokens to a server that rejects the former. If
	// zero, the vendor's limit applies. An answer that reaches it ends with
	// llm.FinishLength.
	MaxTokens int

	// ReasoningEffort is how much a reasoning model thinks, in the vendor's words, such
	// as none, low or high. If empty, it is the model's default. OpenAI's models from
	// GPT-5.5 on call tools over this API only with none: they get it after they have
	// rejected the default.
	ReasoningEffort string

	// ThinkTags is how to treat thinking that a model writes into its text. If empty,
	// it is ThinkTagsAuto.
	ThinkTags ThinkTags

	// MissingFinish accepts an answer without a finish reason if the server marks the
	// end of the stream with [DONE]. By default such an answer is cut off: servers that
	// lose the connection to their model end a stream in the same way.
	MissingFinish bool

	// IdleTimeout is how long the vendor may be silent, before its answer and within
	// it. If zero, it is 5 minutes.
	IdleTimeout time.Duration

	// Retry is how attempts are repeated that failed for a temporary reason, and where
	// they are logged. If nil, the defaults of llm.RetryOptions apply.
	Retry *llm.RetryOptions

	// HTTPClient sends the requests. Redirects are never followed, and its CheckRedirect
	// is not used. If nil, it is http.DefaultClient.
	HTTPClient *http.Client

	// Header has further header fields of all requests. They replace those of the
	// package. Azure takes its key as Api-Key.
	Header http.Header

	// Query is the query of the URL. Azure needs an api-version.
	Query url.Values

	// Body has further fields of the body of all requests. They replace those of the
	// package. A field that is null is not sent.
	Body map[string]json.RawMessage
}

// Model is a model behind the chat completions API. It is safe for concurrent use.
type Model struct {
	retrier *llm.Retrier
}

var _ llm.LLM = (*Model)(nil)

// New returns a Model. The key may be empty if BaseURL is set, for servers that need
// none and for keys in Options.Header. The options may be nil and are copied. New
// returns an error if a key, a header field or a URL cannot be used; the error does not
// show it. New sends nothing.
func New(apiKey string, opts *Options) (*Model, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	c, err := newCaller(apiKey, o)
	if err != nil {
		return nil, fmt.Errorf("openai: %w", err)
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
	from   string // names the model in what it must see again
	header http.Header
	opts   Options

	// What the server has rejected. It is learned, so that later requests do without.
	noReasoning, oldMaxTokens, noUsage, noNative atomic.Bool
}

func newCaller(apiKey string, o Options) (*caller, error) {
	if apiKey == "" && o.BaseURL == "" {
		return nil, errors.New("an API key is needed")
	}
	if o.MaxTokens < 0 {
		return nil, errors.New("MaxTokens must not be negative")
	}
	if !o.ThinkTags.valid() {
		return nil, errors.New("ThinkTags must be one of the package's constants")
	}
	if o.BaseURL == "" {
		o.BaseURL = defaultBaseURL
	}
	if o.Model == "" {
		o.Model = DefaultModel
	}
	address, err := vendorhttp.Endpoint(o.BaseURL, "chat/completions", o.Query)
	if err != nil {
		return nil, err
	}
	header := make(http.Header)
	if apiKey != "" {
		header.Set("Authorization", "Bearer "+apiKey)
	}
	if err := vendorhttp.AddHeader(header, apiKey, o.Header); err != nil {
		return nil, err
	}
	body, err := vendorhttp.CheckBody(o.Body)
	if err != nil {
		return nil, err
	}
	o.Body = body
	config := vendorhttp.Config{Name: "openai", Key: apiKey, Header: o.Header, Query: o.Query, Idle: o.IdleTimeout}
	if o.Retry != nil {
		config.Logger = o.Retry.Logger
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://"), "/")
	vendor := vendorhttp.NewVendor(config)
	return &caller{
		vendor: vendor, tools: vendorhttp.NewToolbox(vendor, vendortool.OpenAI), client: vendorhttp.Client(o.HTTPClient),
		url: address, from: host + " " + o.Model, header: header, opts: o,
	}, nil
}

// Generate asks, and asks again in another form if the server cannot read the first
// one: that is not a failure and takes no time.
func (c *caller) Generate(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	form := c.form(req)
	for {
		response, err := c.ask(ctx, req, form, stream)
		if err == nil {
			c.record(form)
		}
		rejected := new(vendorhttp.Rejected)
		if err == nil || !errors.As(err, &rejected) || !c.adapt(&form, rejected, req) {
			return response, err
		}
	}
}

// ask sends one request.
func (c *caller) ask(ctx context.Context, req *llm.Request, form form, stream func(llm.Chunk) error) (*llm.Response, error) {
	body, err := c.body(req, form)
	if err != nil {
		return nil, err
	}
	call := c.vendor.Begin(ctx)
	defer call.End()
	events, err := call.Post(c.client, c.url, c.header, body)
	if err != nil {
		return nil, err
	}
	answer := c.newAnswer(call, req, form.tools, stream)
	if err := answer.Read(events, "choices", answer.add); err != nil {
		return nil, err
	}
	return answer.response()
}
