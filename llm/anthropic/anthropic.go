// Package anthropic has the models of Anthropic.
//
//	model, err := anthropic.New(os.Getenv("ANTHROPIC_API_KEY"), nil)
//	agent, err := llm.NewAgent(model, &llm.AgentOptions{Tools: tools})
//
// It stands on the vendor's own SDK, github.com/anthropics/anthropic-sdk-go, and
// reads no environment. What the neutral types of package llm do not carry goes to
// the SDK by Options.Request.
package anthropic

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
)

// Defaults of Options.
const (
	// DefaultModel is the vendor's middle one, made for agents.
	DefaultModel = string(anthropic.ModelClaudeSonnet5_5)

	// DefaultMaxTokens is room for long answers and for thinking; each model of the
	// vendor's since Claude 4 can write as much.
	DefaultMaxTokens = 32_000
)

// Options is everything about a Model that has a default.
type Options struct {
	// BaseURL is where the API is, up to and without /v1/messages. "": the vendor's
	// own, https://api.anthropic.com.
	BaseURL string

	// Model names the model. "": DefaultModel.
	Model string

	// MaxTokens bounds one answer, what the model thinks included, in tokens.
	// 0: DefaultMaxTokens. An answer that reaches it ends with llm.FinishLength.
	MaxTokens int

	// Effort is how much work goes into an answer: a word of the vendor's, such as
	// low, medium or high. "": the model's default.
	Effort string

	// IdleTimeout is how long the vendor may be silent, before its answer and within
	// it, until the attempt is given up. 0: 5 minutes.
	IdleTimeout time.Duration

	// Retry is how attempts that failed for a passing reason are repeated, and where
	// they are logged. nil: the defaults of llm.RetryOptions.
	Retry *llm.RetryOptions

	// HTTPClient makes the requests; redirects are not followed, whatever it says.
	// nil: http.DefaultClient.
	HTTPClient *http.Client

	// Request are further options of the SDK, for all requests: a beta header, an
	// extra field of the body such as thinking, OpenTelemetry (which is off).
	Request []option.RequestOption
}

// Model is a model behind the messages API. It is safe for concurrent use.
//
// Usage counts all input, whether it was read from the vendor's prompt cache,
// written to it, or neither.
type Model struct {
	retrier *llm.Retrier
}

var _ llm.LLM = (*Model)(nil)

// New returns a Model. The options may be nil and are copied. A key or a URL that
// cannot be used is an error, which does not show it. Nothing is sent.
func New(apiKey string, opts *Options) (*Model, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if apiKey == "" {
		return nil, errors.New("anthropic: an API key is needed")
	}
	if o.MaxTokens < 0 {
		return nil, errors.New("anthropic: MaxTokens must not be negative")
	}
	if err := vendorhttp.CheckKey(apiKey); err != nil {
		return nil, fmt.Errorf("anthropic: %w", err)
	}
	sdk := []option.RequestOption{
		option.WithEnvironmentProduction(), option.WithAPIKey(apiKey),
		// Spans and trace headers that the host did not ask for.
		option.WithoutOpenTelemetry(),
	}
	if o.BaseURL != "" {
		if err := vendorhttp.CheckBaseURL(o.BaseURL); err != nil {
			return nil, fmt.Errorf("anthropic: %w", err)
		}
		sdk = append(sdk, option.WithBaseURL(o.BaseURL))
	}
	if o.Model == "" {
		o.Model = DefaultModel
	}
	if o.MaxTokens == 0 {
		o.MaxTokens = DefaultMaxTokens
	}
	sdk = append(sdk, option.WithHTTPClient(vendorhttp.Client(o.HTTPClient)))
	sdk = append(sdk, o.Request...)
	sdk = append(sdk, option.WithMaxRetries(0)) // the Retrier knows the deadline and what was streamed
	c := &caller{
		vendor: vendorhttp.NewVendor("anthropic", apiKey, o.IdleTimeout, parseFault),
		// The service alone: a whole Client would read the environment and its files.
		service: anthropic.NewMessageService(sdk...),
		model:   o.Model, maxTokens: int64(o.MaxTokens), effort: anthropic.OutputConfigEffort(o.Effort),
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
	service   anthropic.MessageService
	model     string
	maxTokens int64
	effort    anthropic.OutputConfigEffort
}

// Generate asks, and asks once more without a native output format where that may
// be what was refused: not every schema can be compiled, and the answer is checked
// anyway. That is no failure and uses no time.
func (c *caller) Generate(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	params, err := c.params(req)
	if err != nil {
		return nil, err
	}
	native := nativeSchema(req.Output)
	if native == nil {
		return c.ask(ctx, req, params, stream)
	}
	response, err := c.ask(ctx, req, withFormat(params, native), stream)
	refused := new(vendorhttp.Refused)
	if errors.As(err, &refused) && refused.Status == http.StatusBadRequest {
		return c.ask(ctx, req, params, stream)
	}
	return response, err
}

// ask makes one request.
func (c *caller) ask(ctx context.Context, req *llm.Request, params anthropic.MessageNewParams, stream func(llm.Chunk) error) (*llm.Response, error) {
	call := c.vendor.Begin(ctx)
	defer call.End()
	events := c.service.NewStreaming(call.Context(), params, option.WithMiddleware(call.Middleware))
	defer events.Close()
	answer := newAnswer(req, stream)
	for !answer.complete && events.Next() {
		switch err := answer.add(events.Current()); {
		case errors.Is(err, errTooLarge):
			return nil, call.TooLarge()
		case errors.Is(err, errMalformed):
			return nil, call.Failed(err)
		case err != nil:
			return nil, err
		}
	}
	switch err := events.Err(); {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case answer.reason != "": // what comes after that, or fails to, changes nothing
		return answer.response()
	case err != nil:
		if document := errorDocument(err); document != nil {
			return nil, call.InStream(document)
		}
		return nil, call.Failed(err)
	}
	return nil, call.Cut()
}
