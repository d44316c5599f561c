package steptest_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

func TestStep_laterAttempt_returnsTheRecordWithoutACall(t *testing.T) {
	t.Parallel()
	type made struct {
		Text   string
		At     time.Time
		Raw    json.RawMessage
		Bytes  []byte
		hidden int
	}
	var calls int
	var results []made
	step := func(ctx context.Context, task *webtrigger.Task) error {
		got, err := webtrigger.Step(ctx, task, "make", func(context.Context) (made, error) {
			calls++
			return made{"a\x00ü<", time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), json.RawMessage(`{"n":1e22}`), []byte{0, 255}, 7}, nil
		})
		results = append(results, got)
		return err
	}
	var r *rig
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		if err := step(ctx, task); err != nil {
			return "", err
		}
		return "", r.interrupt(ctx)
	}, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		return "done", step(ctx, task)
	})
	r.Equal(webtrigger.RunQueued, r.execute().Status)
	r.Zero(r.count("Steps"), "the first attempt reads no steps")
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
	r.Equal(1, r.count("Steps"))
	r.Equal(1, calls)
	r.Equal(results[0], results[1])
	r.Zero(results[0].hidden, "the first attempt has the decoded record too")
}

func TestStep_noSteps_readsAndWritesNothing(t *testing.T) {
	t.Parallel()
	var r *rig
	r = newRig(t, func(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		return "", r.interrupt(ctx)
	}, func(context.Context, *webtrigger.Task, webtrigger.Emit) (string, error) { return "done", nil })
	r.execute()
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
	r.Zero(r.count("Steps"))
	r.Zero(r.count("AppendEvents"))
}

func TestStep_sameName_isCountedInEachAttempt(t *testing.T) {
	t.Parallel()
	calls := 0
	var results [][]int
	all := func(ctx context.Context, task *webtrigger.Task) error {
		var got []int
		for range 3 {
			n, err := webtrigger.Step(ctx, task, "a", counting(&calls))
			if err != nil {
				return err
			}
			got = append(got, n)
		}
		results = append(results, got)
		return nil
	}
	var r *rig
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		return "", errors.Join(all(ctx, task), r.interrupt(ctx))
	}, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		return "done", all(ctx, task)
	})
	r.execute()
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
	r.Equal([][]int{{1, 2, 3}, {1, 2, 3}}, results)
	r.Equal(map[string]string{"a 1": "1", "a 2": "2", "a 3": "3"}, r.steps())
}

func TestStep_errorOfFn_isNotRecorded(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	calls := 0
	var r *rig
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		n, err := webtrigger.Step(ctx, task, "a", func(context.Context) (int, error) { return 5, broken })
		r.Same(broken, err)
		r.Zero(n)
		return "", r.interrupt(ctx)
	}, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		_, err := webtrigger.Step(ctx, task, "a", counting(&calls))
		return "done", err
	})
	r.execute()
	r.Empty(r.steps())
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
	r.Equal(1, calls)
}

// An effect that a drain interrupts is not lost: its record goes with the requeue.
func TestStep_contextEndsDuringFn_recordsTheResult(t *testing.T) {
	t.Parallel()
	calls := 0
	var r *rig
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		_, err := webtrigger.StepWith(ctx, task, "a", func(ctx context.Context) (int, error) {
			_ = r.interrupt(ctx)
			return counting(&calls)(ctx)
		}, &webtrigger.StepOptions{Recorded: func() error { return emit("x_recorded", struct{}{}) }})
		if err != nil { // else it was stored before the wait began
			r.ErrorIs(err, webtrigger.ErrShutdown)
		}
		_, err = webtrigger.Step(ctx, task, "b", counting(&calls))
		r.ErrorIs(err, webtrigger.ErrShutdown, "no step begins after the end of the context")
		return "", err
	}, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		_, err := webtrigger.Step(ctx, task, "a", counting(&calls))
		return "done", err
	})
	r.Equal(webtrigger.RunQueued, r.execute().Status)
	r.Equal(map[string]string{"a 1": "1"}, r.steps())
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
	r.Equal(1, calls)
	r.Equal([]string{"run_started", "x_recorded", "run_requeued", "run_started", "run_completed"}, r.events())
}

func TestStep_parallel_recordsEach(t *testing.T) {
	t.Parallel()
	const workers, each = 8, 5
	var calls atomic.Int64
	all := func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) error {
		errs := make([]error, workers)
		var group sync.WaitGroup
		for w := range workers {
			group.Go(func() {
				for range each {
					_, err := webtrigger.StepWith(ctx, task, string(rune('a'+w)), func(context.Context) (int64, error) {
						return calls.Add(1), nil
					}, &webtrigger.StepOptions{AtMostOnce: w%2 == 0, Started: func() error { return nil }, Recorded: func() error { return emit("x_recorded", struct{}{}) }})
					errs[w] = errors.Join(errs[w], err)
				}
			})
		}
		group.Wait()
		return errors.Join(errs...)
	}
	var r *rig
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		return "", errors.Join(all(ctx, task, emit), r.interrupt(ctx))
	}, func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		return "done", all(ctx, task, emit)
	})
	r.execute()
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
	r.EqualValues(workers*each, calls.Load())
	r.Len(r.steps(), workers*each)
	r.Len(r.events(), workers*each+4, "each event is stored once")
}

func TestStep_invalidName_returnsError(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"":                       "must not be empty",
		strings.Repeat("ü", 256): "must have at most 255 characters",
		"a\nb":                   "must not contain control characters",
		"a\u0085":                "must not contain control characters",
		"a\x00":                  "must not contain control characters",
		"a\xff":                  "must be valid UTF-8",
	} {
		_, err := webtrigger.Step(t.Context(), new(webtrigger.Task), name, counting(new(int)))
		require.ErrorContains(t, err, text)
	}
	_, err := webtrigger.Step(t.Context(), new(webtrigger.Task), strings.Repeat("ü", 255), counting(new(int)))
	require.NoError(t, err)
}

// A Task of a test has no store behind it.
func TestStep_taskWithoutService_callsFnAndDecodes(t *testing.T) {
	t.Parallel()
	var order []string
	note := func(what string) error { order = append(order, what); return nil }
	got, err := webtrigger.StepWith(t.Context(), &webtrigger.Task{}, "a", func(context.Context) (map[string]any, error) {
		return map[string]any{"n": 1}, note("fn")
	}, &webtrigger.StepOptions{AtMostOnce: true, Started: func() error { return note("started") }, Recorded: func() error { return note("recorded") }})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"n": float64(1)}, got)
	require.Equal(t, []string{"started", "fn", "recorded"}, order)
	_, err = webtrigger.Step(t.Context(), &webtrigger.Task{}, "a", func(context.Context) (chan int, error) { return nil, nil })
	require.ErrorContains(t, err, `step "a": record result`)
	_, err = webtrigger.Step(t.Context(), &webtrigger.Task{}, "a", func(context.Context) (error, error) { return errors.New("x"), nil })
	require.ErrorContains(t, err, `step "a": record result`, "what JSON does not restore is an error at once")
}

// A record and its events are one batch, however long Recorded takes.
func TestStepWith_eventsOfRecorded_areStoredWithTheRecord(t *testing.T) {
	t.Parallel()
	var r *rig
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		_, err := webtrigger.StepWith(ctx, task, "a", counting(new(int)), &webtrigger.StepOptions{Recorded: func() error {
			err := emit("x_recorded", struct{}{})
			time.Sleep(20 * time.Millisecond) // a flush would come now
			r.Zero(r.count("AppendEvents"))
			return errors.Join(err, emit("x_too", struct{}{}))
		}})
		r.Equal(1, r.count("AppendEvents"))
		return "done", err
	})
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
	r.Equal([]string{"run_started", "x_recorded", "x_too", "run_completed"}, r.events())
}
