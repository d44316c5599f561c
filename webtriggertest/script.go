package webtriggertest

import (
	"context"
	"strings"
	"sync"

	"github.com/webtrigger-go/webtrigger"
)

// Step is one step of a scripted run. It returns the run's result, or nil to continue
// with the next step.
type Step func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error)

// Say returns a Step that completes the run with a text.
func Say(text string) Step {
	return func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
		return &webtrigger.Result{Text: text}, nil
	}
}

// SayHistory returns a Step that completes the run with the earlier messages of its
// conversation, one "role: content" line each.
func SayHistory() Step {
	return func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		lines := make([]string, len(task.History))
		for i, m := range task.History {
			lines[i] = string(m.Role) + ": " + m.Content
		}
		return &webtrigger.Result{Text: strings.Join(lines, "\n")}, nil
	}
}

// Emit returns a Step that emits an event.
func Emit(typ webtrigger.EventType, payload any) Step {
	return func(_ context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
		return nil, emit(typ, payload)
	}
}

// Fail returns a Step that fails the run.
func Fail(err error) Step {
	return func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) { return nil, err }
}

// Hang returns a Step that waits until the run is cancelled, times out or the test ends.
func Hang() Step {
	return func(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
}

// WaitFor returns a Step that waits until the channel is closed.
func WaitFor(ready <-chan struct{}) Step {
	return func(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		select {
		case <-ready:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Script is a Runner that executes scripted steps. The zero Script returns the prompt
// of every run as its result. Its methods are safe for concurrent use.
type Script struct {
	mu    sync.Mutex
	next  [][]Step
	tasks []webtrigger.Task
}

// Next sets the steps of the next run that has none. If the steps end without a
// result, the result is the prompt.
func (s *Script) Next(steps ...Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = append(s.next, steps)
}

// Tasks returns the tasks executed so far, in the order of their start.
func (s *Script) Tasks() []webtrigger.Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]webtrigger.Task(nil), s.tasks...)
}

// Run implements webtrigger.Runner.
func (s *Script) Run(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	s.mu.Lock()
	s.tasks = append(s.tasks, *task)
	var steps []Step
	if len(s.next) > 0 {
		steps, s.next = s.next[0], s.next[1:]
	}
	s.mu.Unlock()
	for _, step := range steps {
		if result, err := step(ctx, task, emit); result != nil || err != nil {
			return result, err
		}
	}
	return &webtrigger.Result{Text: task.Prompt}, nil
}
