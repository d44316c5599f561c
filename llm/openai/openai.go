// Package openai has the models of OpenAI, and of everybody who speaks its chat
// completions API: Azure, OpenRouter, vLLM, Ollama and many more.
//
//	model, err := openai.New(os.Getenv("OPENAI_API_KEY"), nil)
//	agent, err := llm.NewAgent(model, &llm.AgentOptions{Tools: tools})
//
// It stands on the vendor's own SDK, github.com/openai/openai-go, and reads no
// environment. What the neutral types of package llm do not carry goes to the SDK
// by Options.Request.
package openai

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
)

// DefaultModel is the model unless Options name one: of OpenAI's models that
// think only when they are asked to, and so call tools over this API, the newest.
const DefaultModel = openai.ChatModelGPT5_4

// Options is everything about a Model that has a default.
type Options struct {
	// BaseURL is where the API is, up to and without /chat/completions. "": OpenAI's
	// own, https://api.openai.com/v1.
	BaseURL string

	// Model names the model. "": DefaultModel.
	Model string

	// MaxTokens bounds one answer, what the model thinks included, in tokens (the
	// API's max_completion_tokens). 0: the vendor's limit. An answer that reaches it
	// ends with llm.FinishLength.
	MaxTokens int

	// ReasoningEffort is how much a reasoning model thinks: a word of the vendor's,
	// such as none, low or high. "": the model's default, except that OpenAI's models
	// from GPT-5.5 on call tools over this API only with none, and get that once
	// they have said so.
	ReasoningEffort string

	// IdleTimeout is how long the vendor may be silent, before its answer and within
	// it, until the attempt is given up. 0: 5 minutes.
	IdleTimeout time.Duration

	// Retry is how attempts that failed for a passing reason are repeated, and where
	// they are logged. nil: the defaults of llm.RetryOptions.
	Retry *llm.RetryOptions

	// HTTPClient makes the requests; redirects are not followed, whatever it says.
	// nil: http.DefaultClient.
	HTTPClient *http.Client

	// Request are further options of the SDK, for all requests: an organization, an
	// extra field of the body, another way to authenticate.
	Request []option.RequestOption
}

// Model is a model behind the chat completions API. It is safe for concurrent use.
type Model struct {
	retrier *llm.Retrier
}

var _ llm.LLM = (*Model)(nil)

// New returns a Model. The key may be empty where BaseURL is set, for servers that
// ask for none. The options may be nil and are copied. A key or a URL that cannot
// be used is an error, which does not show it. Nothing is sent.
func New(apiKey string, opts *Options) (*Model, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if apiKey == "" && o.BaseURL == "" {
		return nil, errors.New("openai: an API key is needed")
	}
	if o.MaxTokens < 0 {
		return nil, errors.New("openai: MaxTokens must not be negative")
	}
	if err := vendorhttp.CheckKey(apiKey); err != nil {
		return nil, fmt.Errorf("openai: %w", err)
	}
	sdk := []option.RequestOption{option.WithEnvironmentProduction()}
	if o.BaseURL != "" {
		if err := vendorhttp.CheckBaseURL(o.BaseURL); err != nil {
			return nil, fmt.Errorf("openai: %w", err)
		}
		sdk = append(sdk, option.WithBaseURL(o.BaseURL))
	}
	if apiKey != "" {
		sdk = append(sdk, option.WithAPIKey(apiKey))
	}
	if o.Model == "" {
		o.Model = DefaultModel
	}
	sdk = append(sdk, option.WithHTTPClient(vendorhttp.Client(o.HTTPClient)))
	sdk = append(sdk, o.Request...)
	sdk = append(sdk, option.WithMaxRetries(0)) // the Retrier knows the deadline and what was streamed
	c := &caller{
		vendor: vendorhttp.NewVendor("openai", apiKey, o.IdleTimeout, parseFault),
		// The service alone: a whole Client would read the environment.
		service: openai.NewChatCompletionService(sdk...),
		model:   o.Model, maxTokens: int64(o.MaxTokens), effort: o.ReasoningEffort,
	}
	return &Model{retrier: llm.NewRetrier(c, o.Retry)}, nil
}

// Generate asks the model, and asks again where the vendor refuses for a reason
// that may pass; see llm.LLM and llm.Retrier.
func (m *Model) Generate(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	return m.retrier.Generate(ctx, req, stream)
}

// caller makes one attempt.
type caller struct {
	vendor    *vendorhttp.Vendor
	service   openai.ChatCompletionService
	model     string
	maxTokens int64
	effort    string

	// noReasoning is learned: the model does not think while it has tools.
	noReasoning atomic.Bool
}

// Generate asks, and asks once more in another form where the vendor cannot read
// the first: that is no failure and uses no time.
func (c *caller) Generate(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	form := form{format: responseFormat(req.Output), effort: c.effort}
	if form.effort == "" && len(req.Tools) > 0 && c.noReasoning.Load() {
		form.effort = noReasoning
	}
	for {
		response, err := c.ask(ctx, req, form, stream)
		refused := new(vendorhttp.Refused)
		if err == nil || !errors.As(err, &refused) || !form.adapt(refused, req) {
			return response, err
		}
		if form.effort == noReasoning {
			c.noReasoning.Store(true)
		}
	}
}

// ask makes one request.
func (c *caller) ask(ctx context.Context, req *llm.Request, form form, stream func(llm.Chunk) error) (*llm.Response, error) {
	params, err := c.params(req, form)
	if err != nil {
		return nil, err
	}
	call := c.vendor.Begin(ctx)
	defer call.End()
	events := c.service.NewStreaming(call.Context(), params, option.WithMiddleware(call.Middleware))
	defer events.Close()
	answer := newAnswer(req, stream)
	for events.Next() {
		if err := answer.add(events.Current()); err != nil {
			if err == errTooLarge {
				err = call.TooLarge()
			}
			return nil, err
		}
	}
	switch err := events.Err(); {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case answer.finish != "": // what comes after that, or fails to, changes nothing
		return answer.response(), nil
	case err != nil:
		if document := errorDocument(err); document != nil {
			return nil, call.InStream(document)
		}
		return nil, call.Failed(err)
	}
	return nil, call.Cut()
}
