package llm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Defaults of RetryOptions.
const (
	DefaultMaxAttempts = 10
	DefaultMinDelay    = 500 * time.Millisecond
	DefaultMaxDelay    = 30 * time.Second
)

// RetryOptions configures a Retrier. Every field has a default.
type RetryOptions struct {
	// MaxAttempts is the maximum number of attempts of one call, the first included.
	// If zero, it is DefaultMaxAttempts. If 1, calls are never retried. If negative,
	// they are retried until the context's deadline, or without limit if it has none.
	MaxAttempts int

	// MinDelay and MaxDelay bound the wait between attempts if the vendor does not ask
	// for a delay. The first wait is about MinDelay. Each further wait is twice as
	// long, at most MaxDelay. Every wait is shortened by up to a half at random, so
	// that runs that failed together do not retry together. If zero, they are
	// DefaultMinDelay and DefaultMaxDelay.
	MinDelay, MaxDelay time.Duration

	// Logger receives a warning for each failed call, with the vendor's own text. If
	// nil, they are discarded.
	Logger *slog.Logger
}

// Retrier is a model that retries the failed calls of another model if the error is an
// [*Error] with Retryable set. The models of vendors are already Retriers.
//
// It waits for Error.RetryAfter. If that is zero, it waits as RetryOptions define. If
// an attempt would begin after the context's deadline, it returns the error at once, so
// that the run fails with the original reason.
//
// A call that has streamed a part of its answer is not retried, because a second answer
// would begin again after the text that was already shown.
type Retrier struct {
	model LLM
	opts  RetryOptions
}

var _ LLM = (*Retrier)(nil)

// NewRetrier returns a Retrier around a model. The options may be nil and are
// copied.
func NewRetrier(model LLM, opts *RetryOptions) *Retrier {
	r := &Retrier{model: model}
	if opts != nil {
		r.opts = *opts
	}
	if r.opts.MaxAttempts == 0 {
		r.opts.MaxAttempts = DefaultMaxAttempts
	}
	if r.opts.MinDelay <= 0 {
		r.opts.MinDelay = DefaultMinDelay
	}
	if r.opts.MaxDelay <= 0 {
		r.opts.MaxDelay = DefaultMaxDelay
	}
	if r.opts.Logger == nil {
		r.opts.Logger = slog.New(slog.DiscardHandler)
	}
	return r
}

// Generate calls the model until it answers or its error is final. When ctx ends,
// during a call or between two, it returns the context's cause.
func (r *Retrier) Generate(ctx context.Context, req *Request, stream func(Chunk) error) (*Response, error) {
	var streamed bool
	watched := func(chunk Chunk) error {
		streamed = true
		return stream(chunk)
	}
	for attempt := 1; ; attempt++ {
		response, err := r.model.Generate(ctx, req, watched)
		if err == nil {
			return response, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		failure := new(Error)
		if !errors.As(err, &failure) {
			return nil, err
		}
		delay, reason := r.next(ctx, attempt, failure, streamed)
		r.log(ctx, req, attempt, failure, delay, reason)
		if reason != "" {
			return nil, gaveUp(err, attempt, reason)
		}
		if err := wait(ctx, delay); err != nil {
			return nil, err
		}
	}
}

// maxRetryAfter keeps absurd requests in the range of a duration.
const maxRetryAfter = 365 * 24 * time.Hour

// Why a call is not repeated.
const (
	reasonFinal    = "final"
	reasonStreamed = "a part of the answer was streamed already"
	reasonAttempts = "attempts used up"
	reasonDeadline = "no time left for another attempt"
)

// next is how long to wait after a failed attempt, or why to give up.
func (r *Retrier) next(ctx context.Context, attempt int, failure *Error, streamed bool) (delay time.Duration, reason string) {
	switch {
	case !failure.Retryable:
		return 0, reasonFinal
	case streamed:
		return 0, reasonStreamed
	case r.opts.MaxAttempts > 0 && attempt >= r.opts.MaxAttempts:
		return 0, reasonAttempts
	}
	delay = r.backoff(attempt)
	if asked := min(failure.RetryAfter, maxRetryAfter); asked > 0 {
		delay = asked + rand.N(min(asked/10, r.opts.MinDelay)+1) // never earlier, and not all at the same moment
	}
	if deadline, ok := ctx.Deadline(); ok && delay >= time.Until(deadline) {
		return 0, reasonDeadline
	}
	return delay, ""
}

// backoff is the wait after the attempt with that number, counted from 1.
func (r *Retrier) backoff(attempt int) time.Duration {
	delay := r.opts.MinDelay
	for range attempt - 1 {
		if delay >= r.opts.MaxDelay/2 { // and so doubling cannot overflow
			delay = r.opts.MaxDelay
			break
		}
		delay *= 2
	}
	delay = min(delay, r.opts.MaxDelay)
	return delay - rand.N(delay/2+1)
}

func (r *Retrier) log(ctx context.Context, req *Request, attempt int, failure *Error, delay time.Duration, reason string) {
	attrs := []slog.Attr{slog.Int("attempt", attempt), slog.String("error", failure.Error())}
	if req.Task != nil {
		attrs = append(attrs, slog.Int64("run_id", req.Task.Run.ID), slog.String("run_key", req.Task.Run.Key))
	}
	if failure.Detail != "" {
		attrs = append(attrs, slog.String("detail", failure.Detail))
	}
	if reason == "" {
		attrs = append(attrs, slog.Duration("retry_in", delay))
	} else {
		attrs = append(attrs, slog.String("not_repeated", reason))
	}
	r.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "model call failed", attrs...)
}

// gaveUp adds the number of attempts or the reason to err, if they are useful.
func gaveUp(err error, attempt int, reason string) error {
	switch reason {
	case reasonStreamed, reasonDeadline:
		return fmt.Errorf("%w (%s)", err, reason)
	case reasonAttempts:
		if attempt > 1 {
			return fmt.Errorf("%w (after %d attempts)", err, attempt)
		}
	}
	return err
}

// wait waits, or returns the context's cause.
func wait(ctx context.Context, delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
