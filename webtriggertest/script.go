package webtriggertest

import (
	"context"
	"sync"

	"github.com/webtrigger-go/webtrigger"
)

// Step is one thing that a scripted run does. It returns a result when the run is
// done, or nil to go on with the next step.
type Step func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error)

// Say ends the run with a text.
func Say(text string) Step {
	return func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
		return &webtrigger.Result{Text: text}, nil
	}
}

// Emit records an event.
func Emit(typ webtrigger.EventType, payload any) Step {
	return func(_ context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
		return nil, emit(typ, payload)
	}
}

// Fail fails the run.
func Fail(err error) Step {
	return func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) { return nil, err }
}

// Hang waits until the run is cancelled, times out or the test ends.
func Hang() Step {
	return func(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
}

// WaitFor goes on when the channel is closed.
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

// Script is a Runner that does what it was told. The zero Script echoes the
// prompt of every run. Its methods are safe for concurrent use.
type Script struct {
	mu    sync.Mutex
	next  [][]Step
	tasks []webtrigger.Task
}

// Next says what the next run does that nothing was said about yet. A run whose
// steps end without a result echoes its prompt.
func (s *Script) Next(steps ...Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = append(s.next, steps)
}

// Tasks returns what was executed so far, in the order in which it began.
func (s *Script) Tasks() []webtrigger.Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]webtrigger.Task(nil), s.tasks...)
}

// Run is that of a webtrigger.Runner.
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
