package steptest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

const misfit = "the recorded steps do not fit this Runner"

// The code of a Runner changed between two attempts.
func TestStep_runnerChanged_failsTheRun(t *testing.T) {
	t.Parallel()
	type step struct {
		input any
		do    func(ctx context.Context, task *webtrigger.Task, opts *webtrigger.StepOptions) error
	}
	number := func(ctx context.Context, task *webtrigger.Task, opts *webtrigger.StepOptions) error {
		_, err := webtrigger.StepWith(ctx, task, "a", counting(new(int)), opts)
		return err
	}
	text := func(ctx context.Context, task *webtrigger.Task, opts *webtrigger.StepOptions) error {
		_, err := webtrigger.StepWith(ctx, task, "a", func(context.Context) (string, error) { return "", nil }, opts)
		return err
	}
	for name, steps := range map[string][2]step{
		"another input":       {{map[string]int{"n": 1}, number}, {map[string]int{"n": 2}, number}},
		"an input, then none": {{1, number}, {nil, number}},
		"no input, then one":  {{nil, number}, {1, number}},
		"another result type": {{1, number}, {1, text}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r *rig
			r = newRig(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
				r.NoError(steps[0].do(ctx, task, &webtrigger.StepOptions{Input: steps[0].input}))
				return "", r.interrupt(ctx)
			}, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
				r.ErrorIs(steps[1].do(ctx, task, &webtrigger.StepOptions{Input: steps[1].input}), webtrigger.ErrStepsMismatch)
				r.ErrorIs(context.Cause(ctx), webtrigger.ErrStepsMismatch)
				return "done nevertheless", nil
			})
			r.execute()
			run := r.execute()
			r.Equal(webtrigger.RunFailed, run.Status)
			r.Equal(misfit, run.ErrorMessage)
			r.Empty(run.StatusDetail)
			r.Empty(run.Result)
		})
	}
}

func TestStep_equalInput_fits(t *testing.T) {
	t.Parallel()
	var r *rig
	step := func(ctx context.Context, task *webtrigger.Task, input any) error {
		_, err := webtrigger.StepWith(ctx, task, "a", counting(new(int)), &webtrigger.StepOptions{Input: input})
		return err
	}
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		return "", errors.Join(step(ctx, task, map[string]any{"b": 1, "a": []string{"x"}}), r.interrupt(ctx))
	}, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		return "done", step(ctx, task, map[string]any{"a": []string{"x"}, "b": 1})
	})
	r.execute()
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
}

func TestStep_startMarkWithoutRecord_isUnknown(t *testing.T) {
	t.Parallel()
	calls, started := 0, 0
	var r *rig
	opts := func(emit webtrigger.Emit) *webtrigger.StepOptions {
		return &webtrigger.StepOptions{AtMostOnce: true, Started: func() error { started++; return emit("x_started", struct{}{}) }}
	}
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		_, err := webtrigger.StepWith(ctx, task, "a", func(context.Context) (int, error) {
			r.Equal(map[string]string{"a 1": ""}, r.steps(), "the mark is committed before the call")
			r.Equal([]string{"run_started", "x_started"}, r.events())
			calls++
			return 0, r.interrupt(ctx)
		}, opts(emit))
		return "", err
	}, func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		_, err := webtrigger.StepWith(ctx, task, "a", counting(&calls), opts(emit))
		r.ErrorIs(err, webtrigger.ErrOutcomeUnknown)
		_, err = webtrigger.StepWith(ctx, task, "a", counting(&calls), opts(emit))
		return "done", err
	})
	r.execute()
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
	r.Equal(2, calls, "the second call with the name is a step of its own")
	r.Equal(2, started)
	r.Equal(map[string]string{"a 1": "", "a 2": "2"}, r.steps())
}

// Without AtMostOnce, a start mark only keeps the events of Started from being repeated.
func TestStep_startedWithoutAtMostOnce_isExecutedAgainWithoutItsEvents(t *testing.T) {
	t.Parallel()
	calls := 0
	var r *rig
	step := func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit, fn func(context.Context) (int, error)) error {
		_, err := webtrigger.StepWith(ctx, task, "a", fn, &webtrigger.StepOptions{
			Started:  func() error { return emit("x_started", struct{}{}) },
			Recorded: func() error { return errors.Join(emit("x_recorded", struct{}{}), emit("x_too", struct{}{})) },
		})
		return err
	}
	attempt := func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		return "", step(ctx, task, emit, func(ctx context.Context) (int, error) { calls++; return 0, r.interrupt(ctx) })
	}
	r = newRig(t, attempt, func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		return "", errors.Join(step(ctx, task, emit, counting(&calls)), r.interrupt(ctx))
	}, func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		return "done", step(ctx, task, emit, counting(&calls))
	})
	r.execute()
	r.execute()
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
	r.Equal(2, calls)
	r.Equal([]string{"run_started", "x_started", "run_requeued", "run_started", "x_recorded", "x_too", "run_requeued", "run_started", "run_completed"}, r.events())
}

func TestStep_errorsOfStartedAndRecorded_areReturned(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	calls := 0
	r := newRig(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		fails := func() error { return broken }
		_, err := webtrigger.StepWith(ctx, task, "a", counting(&calls), &webtrigger.StepOptions{Started: fails})
		require.Same(t, broken, err)
		require.Zero(t, calls)
		_, err = webtrigger.StepWith(ctx, task, "b", counting(&calls), &webtrigger.StepOptions{Recorded: fails})
		require.Same(t, broken, err)
		require.Panics(t, func() {
			_, _ = webtrigger.StepWith(ctx, task, "c", counting(&calls), &webtrigger.StepOptions{Recorded: func() error { panic("c") }})
		})
		_, err = webtrigger.Step(ctx, task, "d", counting(&calls))
		return "done", err
	})
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
	r.Equal(map[string]string{"a 1": "", "b 1": "1", "d 1": "3"}, r.steps(), "a Started that fails may have emitted events")
}

// Another process claims the run while the first attempt has not detected that: its steps are
// rejected, and the second attempt sees those from before.
func TestStep_oldLease_isRejected(t *testing.T) {
	t.Parallel()
	var r *rig
	calls := 0
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		_, err := webtrigger.Step(ctx, task, "a", counting(&calls))
		r.NoError(err)
		_, err = r.store.Store.RequeueRun(ctx, r.held(), webtrigger.Requeue{Reason: webtrigger.RequeueShutdown})
		r.NoError(err)
		_, err = webtrigger.StepWith(ctx, task, "b", counting(&calls), &webtrigger.StepOptions{Recorded: func() error { return emit("x_late", struct{}{}) }})
		r.ErrorIs(err, webtrigger.ErrLeaseLost)
		r.ErrorIs(context.Cause(ctx), webtrigger.ErrLeaseLost)
		_, err = webtrigger.StepWith(ctx, task, "c", counting(&calls), &webtrigger.StepOptions{AtMostOnce: true})
		r.ErrorIs(err, webtrigger.ErrLeaseLost)
		return "", err
	}, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		r.Equal(map[string]string{"a 1": "1"}, r.steps())
		_, err := webtrigger.Step(ctx, task, "a", counting(&calls))
		return "done", err
	})
	r.execute()
	r.Equal(webtrigger.RunCompleted, r.execute().Status)
	r.Equal(2, calls, "a and the rejected b; c was fenced before its call")
	r.Equal([]string{"run_started", "run_requeued", "run_started", "run_completed"}, r.events())
}

// A statement whose outcome is unknown is repeated under its number: the step is stored
// once, and its function called once.
func TestStep_unknownOutcome_isSettledByTheRepeatedWrite(t *testing.T) {
	t.Parallel()
	for name, stored := range map[string]bool{"stored": true, "not stored": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			r := newRig(t, func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
				_, err := webtrigger.StepWith(ctx, task, "a", counting(&calls), &webtrigger.StepOptions{
					AtMostOnce: true, Recorded: func() error { return emit("x_recorded", struct{}{}) }})
				return "done", err
			})
			failed := 0
			r.setFault(func(method string, do func() error) error {
				if method != "AppendEvents" || failed == 4 {
					return do()
				}
				if failed++; stored {
					_ = do()
				}
				return fmt.Errorf("connection lost: %w", webtrigger.ErrUnavailable)
			})
			r.Equal(webtrigger.RunCompleted, r.execute().Status)
			r.Equal(1, calls)
			r.Equal(map[string]string{"a 1": "1"}, r.steps())
			r.Equal([]string{"run_started", "x_recorded", "run_completed"}, r.events())
		})
	}
}

func TestStep_unreadableSteps_areReadAgainOrFailTheRun(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err    error
		times  int
		status webtrigger.RunStatus
		calls  int
		text   string
	}{
		"unavailable for a while":           {webtrigger.ErrUnavailable, 3, webtrigger.RunCompleted, 1, ""},
		"broken":                            {errors.New("broken"), 1, webtrigger.RunFailed, 1, "The recorded steps of the run could not be read."},
		"a store that does not record them": {errors.ErrUnsupported, 1, webtrigger.RunCompleted, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			var r *rig
			step := func(ctx context.Context, task *webtrigger.Task) error {
				_, err := webtrigger.Step(ctx, task, "a", counting(&calls))
				return err
			}
			r = newRig(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
				return "", errors.Join(step(ctx, task), r.interrupt(ctx))
			}, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
				return "done", step(ctx, task)
			})
			r.execute()
			failed := 0
			r.setFault(func(method string, do func() error) error {
				if method != "Steps" || failed == test.times {
					return do()
				}
				failed++
				return test.err
			})
			run := r.execute()
			r.Equal(test.status, run.Status)
			r.Equal(test.text, run.ErrorMessage)
			r.Equal(test.calls, calls)
		})
	}
}

func TestStep_overLimits_failsTheRun(t *testing.T) {
	t.Parallel()
	text := func(n int) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return strings.Repeat("x", n-2), nil } // without the quotes
	}
	for name, test := range map[string]struct {
		steps func(ctx context.Context, task *webtrigger.Task) error
		want  string
	}{
		"a record": {func(ctx context.Context, task *webtrigger.Task) error {
			_, err := webtrigger.Step(ctx, task, "fits", text(webtrigger.MaxStepRecordBytes))
			require.NoError(t, err)
			_, err = webtrigger.Step(ctx, task, "large", text(webtrigger.MaxStepRecordBytes+1))
			return err
		}, `The record of the step "large" is larger than 1 MiB.`},
		"all records, over two attempts": {func(ctx context.Context, task *webtrigger.Task) error {
			_, err := webtrigger.Step(ctx, task, "fits", text(2))
			require.NoError(t, err)
			_, err = webtrigger.Step(ctx, task, "more", text(2))
			return err
		}, `The records of the run's steps are larger than 16 MiB, with the step "more".`},
		"the number": {func(ctx context.Context, task *webtrigger.Task) (err error) {
			_, err = webtrigger.Step(ctx, task, "last", counting(new(int)))
			require.NoError(t, err)
			_, err = webtrigger.Step(ctx, task, "more", counting(new(int)))
			return err
		}, "The run has more than 10000 steps."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r *rig
			r = newRig(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
				var earlier webtrigger.EventBatch
				switch name {
				case "all records, over two attempts":
					for i := range 16 {
						record := bytes.Repeat([]byte{'1'}, webtrigger.MaxStepRecordBytes-i/15*3)
						earlier.Steps = append(earlier.Steps, webtrigger.StepRecord{Name: "earlier", Nth: i + 1, Record: record})
					}
				case "the number":
					for i := range webtrigger.MaxSteps - 1 {
						earlier.Steps = append(earlier.Steps, webtrigger.StepRecord{Name: "a", Nth: i + 1, Record: []byte(`1`)})
					}
				}
				earlier.Number = 1
				r.NoError(r.store.AppendEvents(ctx, r.held(), earlier))
				return "", r.interrupt(ctx)
			}, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
				return "", test.steps(ctx, task)
			})
			r.execute()
			run := r.execute()
			r.Equal(webtrigger.RunFailed, run.Status)
			r.Equal(test.want, run.ErrorMessage)
		})
	}
}
