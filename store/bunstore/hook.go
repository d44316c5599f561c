package bunstore

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// The calls of Options.Enqueue. The hook is the host's code, and its transaction holds
// the runs of one assistant: see batcher. Whatever the hook does, the transaction is not
// committed unless the hook returns nil. So the outcome of a failure is known.

const (
	// DefaultEnqueueTimeout is the default of [Options.EnqueueTimeout].
	DefaultEnqueueTimeout = 3 * time.Second

	hookGrace    = 100 * time.Millisecond // for a hook to return when its context has ended
	maxAbandoned = 2                      // calls for an assistant that have not returned; then no more are made
)

// hookError is the failure of Options.Enqueue.
type hookError struct {
	cause error

	hung      bool // the call took the whole time
	abandoned bool // the call has not returned, and may still use the transaction
}

func (e *hookError) Error() string { return "Options.Enqueue: " + e.cause.Error() }

// Unwrap hides those errors of the hook that are decisions of the store elsewhere.
func (e *hookError) Unwrap() error {
	if decided(e.cause) {
		return nil
	}
	return e.cause
}

// hookFailed reports whether an error is that of Options.Enqueue.
func hookFailed(err error) (failed *hookError, ok bool) {
	ok = errors.As(err, &failed)
	return failed, ok
}

// hooks is what is known of the calls of Options.Enqueue, by assistant.
type hooks struct {
	mu        sync.Mutex
	abandoned map[string]int  // calls that have not returned after their timeout
	hung      map[string]bool // the last call took the whole time
	open      map[string]int  // calls for open runs in progress
}

const manyHung = 1000 // assistants whose last call is remembered

// abandon counts calls that were abandoned or have returned after all.
func (h *hooks) abandon(assistantID string, n int) (left int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if left = h.abandoned[assistantID] + n; left > 0 {
		h.abandoned[assistantID] = left
	} else {
		delete(h.abandoned, assistantID)
	}
	return left
}

// settle records how the last call for an assistant ended.
func (h *hooks) settle(assistantID string, hung bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !hung {
		delete(h.hung, assistantID)
		return
	}
	if len(h.hung) == manyHung {
		clear(h.hung)
	}
	h.hung[assistantID] = true
}

// hangs reports whether the last call for an assistant took the whole time.
func (h *hooks) hangs(assistantID string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hung[assistantID]
}

// enter begins a call for an open run. While the calls for an assistant hang, it has one at
// a time, so that they do not use up the connections of such calls.
func (h *hooks) enter(assistantID string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hung[assistantID] && h.open[assistantID] > 0 {
		return false
	}
	h.open[assistantID]++
	return true
}

func (h *hooks) leave(assistantID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[assistantID]--; h.open[assistantID] == 0 {
		delete(h.open, assistantID)
	}
}

// enqueueOpen is enqueue after a transition of an open run that waits without a
// connection: see errLocked.
func (s *Store) enqueueOpen(ctx context.Context, tx bun.Tx, runs []RunRef) error {
	if len(runs) == 0 || s.opts.Enqueue == nil {
		return nil
	}
	if !s.hooks.enter(runs[0].AssistantID) {
		return errLocked
	}
	defer s.hooks.leave(runs[0].AssistantID)
	return s.enqueue(ctx, tx, runs)
}

// enqueue calls Options.Enqueue with the runs of one assistant, within its timeout. If the
// hook does not return when its context ends, enqueue leaves it alone with the
// transaction, which must be rolled back.
func (s *Store) enqueue(ctx context.Context, tx bun.Tx, runs []RunRef) error {
	if len(runs) == 0 || s.opts.Enqueue == nil {
		return nil
	}
	assistantID := runs[0].AssistantID
	if n := s.hooks.abandon(assistantID, 0); n >= maxAbandoned {
		return &hookError{cause: fmt.Errorf("%d earlier calls for this assistant have not returned", n), hung: true}
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.EnqueueTimeout)
	defer cancel()
	result, returned := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(returned)
		s.callHook(ctx, tx, runs, result)
	}()
	var err error
	select {
	case err = <-result:
	case <-ctx.Done():
		select {
		case err = <-result:
		case <-time.After(hookGrace):
			err = &hookError{cause: ctx.Err(), hung: true, abandoned: true}
			s.abandonHook(assistantID, returned)
		}
	}
	hung := err != nil && ctx.Err() != nil
	s.hooks.settle(assistantID, hung)
	if _, ok := hookFailed(err); ok || err == nil {
		return err
	}
	return &hookError{cause: err, hung: hung}
}

// callHook sends the answer of the hook to result. A panic of the hook is an error.
func (s *Store) callHook(ctx context.Context, tx bun.Tx, runs []RunRef, result chan<- error) {
	err, returned := errors.New("hook panicked: see the log"), false
	defer func() {
		if !returned {
			cause := recover() // nil after runtime.Goexit
			s.log.ErrorContext(ctx, "Options.Enqueue panicked", "assistant_id", runs[0].AssistantID, "panic", fmt.Sprint(cause),
				"stack", string(debug.Stack()))
		}
		result <- err
	}()
	err, returned = s.opts.Enqueue(ctx, tx, runs), true
}

// abandonHook counts a call that ignores the end of its context, until it returns.
func (s *Store) abandonHook(assistantID string, returned <-chan struct{}) {
	s.hooks.abandon(assistantID, 1)
	s.log.Error("Options.Enqueue ignores its context", "assistant_id", assistantID,
		"timeout", s.opts.EnqueueTimeout)
	go func() {
		<-returned
		s.hooks.abandon(assistantID, -1)
	}()
}

// wrapHook is the answer to a call whose transaction was rolled back because of the
// hook.
func wrapHook(doing string, failed *hookError) error {
	return fmt.Errorf("bunstore: %s: %w: %w: %w", doing, webtrigger.ErrUnavailable, webtrigger.ErrNotStored, failed)
}
