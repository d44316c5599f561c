package llm_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/llm"
)

var errVendor = errors.New("vendor: 429 Too Many Requests")

// flaky is a model that fails some times before it answers, and keeps when it was
// called.
type flaky struct {
	failures []error // what the calls return, in order; the last one again and again when endless
	endless  bool
	chunks   []string // streamed by each call before it fails
	calls    []time.Time
}

func (f *flaky) Generate(_ context.Context, _ *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	f.calls = append(f.calls, time.Now())
	for _, c := range f.chunks {
		if err := stream(llm.Chunk{Text: c}); err != nil {
			return nil, err
		}
	}
	n := len(f.calls) - 1
	if f.endless {
		n = min(n, len(f.failures)-1)
	}
	if n < len(f.failures) {
		return nil, f.failures[n]
	}
	return &llm.Response{Text: "done", Finish: llm.FinishStop}, nil
}

// waits are the times between calls.
func (f *flaky) waits() (waits []time.Duration) {
	for i := range len(f.calls) - 1 {
		waits = append(waits, f.calls[i+1].Sub(f.calls[i]))
	}
	return waits
}

func passing(after time.Duration) error {
	return &llm.Error{Err: errVendor, Retryable: true, RetryAfter: after}
}

func generate(ctx context.Context, model llm.LLM, opts *llm.RetryOptions) (*llm.Response, error) {
	return llm.NewRetrier(model, opts).Generate(ctx, &llm.Request{Task: task(nil)}, func(llm.Chunk) error { return nil })
}

func TestRetryBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		model := &flaky{failures: []error{passing(0), passing(0), passing(0), passing(0), passing(0)}}
		response, err := generate(t.Context(), model, &llm.RetryOptions{MinDelay: time.Second, MaxDelay: 5 * time.Second})
		require.NoError(t, err)
		require.Equal(t, "done", response.Text)
		for i, most := range []time.Duration{1, 2, 4, 5, 5} {
			most *= time.Second
			wait := model.waits()[i]
			require.True(t, wait >= most/2 && wait <= most, "wait %d is %v, at most %v", i, wait, most)
		}
	})
}

// Calls that failed together are not retried together.
func TestRetrier_jitter_spreadsRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{0, time.Minute} {
			seen := make(map[time.Duration]bool)
			for range 20 {
				model := &flaky{failures: []error{passing(after)}}
				_, err := generate(t.Context(), model, nil)
				require.NoError(t, err)
				seen[model.waits()[0]] = true
			}
			require.Greater(t, len(seen), 10, "of 20 waits after Retry-After %v", after)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		model := &flaky{failures: []error{passing(2 * time.Minute), passing(time.Millisecond)}}
		_, err := generate(t.Context(), model, nil)
		require.NoError(t, err)
		waits := model.waits()
		require.True(t, waits[0] >= 2*time.Minute && waits[0] < 2*time.Minute+time.Second, "%v", waits[0])
		require.True(t, waits[1] >= time.Millisecond && waits[1] < 2*time.Millisecond, "%v", waits[1])
	})
}

// A Retry-After that exceeds every duration must not cause a retry at once.
func TestRetrier_absurdRetryAfter_doesNotRetryAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		model := &flaky{failures: []error{passing(math.MaxInt64)}}
		_, err := generate(ctx, model, nil)
		require.ErrorIs(t, err, errVendor)
		require.Len(t, model.calls, 1)
	})
}

func TestRetryGivesUp(t *testing.T) {
	t.Parallel()
	final := &llm.Error{Err: errors.New("vendor: 401 Unauthorized")}
	for name, c := range map[string]struct {
		model *flaky
		opts  *llm.RetryOptions
		calls int
		err   string
	}{
		"a final error":         {&flaky{failures: []error{final}}, nil, 1, "vendor: 401 Unauthorized"},
		"an error of no vendor": {&flaky{failures: []error{errors.New("the script failed")}}, nil, 1, "the script failed"},
		"a final one later":     {&flaky{failures: []error{passing(0), final}}, nil, 2, "vendor: 401 Unauthorized"},
		"attempts":              {&flaky{failures: []error{passing(0)}, endless: true}, nil, llm.DefaultMaxAttempts, "vendor: 429 Too Many Requests (after 10 attempts)"},
		"one attempt": {&flaky{failures: []error{passing(0)}, endless: true}, &llm.RetryOptions{MaxAttempts: 1}, 1,
			"vendor: 429 Too Many Requests"},
		"streamed": {&flaky{failures: []error{passing(0)}, chunks: []string{"half an ans"}}, nil, 1,
			"vendor: 429 Too Many Requests (a part of the answer was streamed already)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, err := generate(t.Context(), c.model, c.opts)
				require.EqualError(t, err, c.err)
				require.Len(t, c.model.calls, c.calls)
			})
		})
	}
}

// A run whose deadline comes before the next attempt fails at once, by its true
// reason.
func TestRetryDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		model := &flaky{failures: []error{passing(time.Second), passing(time.Minute)}}
		_, err := generate(ctx, model, nil)
		require.EqualError(t, err, "vendor: 429 Too Many Requests (no time left for another attempt)")
		require.ErrorIs(t, err, errVendor)
		require.Less(t, time.Since(began), 2*time.Second)
	})
	synctest.Test(t, func(t *testing.T) { // and without a limit of attempts, the deadline is one
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		model := &flaky{failures: []error{passing(0)}, endless: true}
		_, err := generate(ctx, model, &llm.RetryOptions{MaxAttempts: -1})
		require.ErrorContains(t, err, "no time left")
		require.Greater(t, time.Since(began), time.Hour-llm.DefaultMaxDelay)
		require.Greater(t, len(model.calls), 100)
	})
}

func TestRetryCancel(t *testing.T) {
	t.Parallel()
	errStop := errors.New("an operator cancelled it")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		model := &flaky{failures: []error{passing(time.Hour)}}
		done := make(chan error, 1)
		go func() {
			_, err := generate(ctx, model, nil)
			done <- err
		}()
		synctest.Wait() // it waits for the second attempt
		began := time.Now()
		cancel(errStop)
		require.ErrorIs(t, <-done, errStop)
		require.Zero(t, time.Since(began))
		require.Len(t, model.calls, 1)
	})
	// If the end of the context caused the error, the error is the context's cause.
	for _, said := range []error{passing(0), &llm.Error{Err: errVendor}, context.Canceled} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			model := modelFunc(func(context.Context, *llm.Request, func(llm.Chunk) error) (*llm.Response, error) {
				cancel(errStop)
				return nil, said
			})
			_, err := generate(ctx, model, nil)
			require.Equal(t, errStop, err)
		})
	}
}

// The text of the vendor is logged, and is not part of the error.
func TestRetryLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log logtest.Buffer
		model := &flaky{failures: []error{
			&llm.Error{Err: errVendor, Retryable: true, Detail: "limit reached in organization org-1"},
			&llm.Error{Err: errors.New("vendor: 400 Bad Request"), Detail: "no such model"},
		}}
		_, err := generate(t.Context(), model, &llm.RetryOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.EqualError(t, err, "vendor: 400 Bad Request")
		text := log.String()
		require.Contains(t, text, `attempt=1 error="vendor: 429 Too Many Requests" run_id=1 run_key=k detail="limit reached in organization org-1" retry_in=`)
		require.Contains(t, text, `attempt=2 error="vendor: 400 Bad Request" run_id=1 run_key=k detail="no such model" not_repeated=final`)
	})
}
