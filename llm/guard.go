package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Each call of a tool runs in a goroutine of its own, so a tool that does not return
// delays nothing else. Soon after its context ends, the agent abandons the call. The
// call continues in the background and is counted until it returns. Without the count,
// a tool that never returns would fill the memory, one call after the other.

const (
	toolGrace = 50 * time.Millisecond // that a tool may take to return after its context ends
	maxStuck  = 32                    // abandoned calls of one tool that have not returned
)

// registered is a tool with its compiled schema.
type registered struct {
	Tool
	check func(json.RawMessage) error
	stuck atomic.Int32
}

// answer is what a tool returned.
type answer struct {
	said string
	err  error
}

// within calls the tool and returns its result. It returns soon after the limit has
// passed or ctx has ended, at the latest.
func (r *registered) within(ctx context.Context, limit time.Duration, arguments json.RawMessage, log *slog.Logger) (string, error) {
	if r.stuck.Load() >= maxStuck {
		return "", errors.New("tool temporarily unavailable: too many earlier calls are still running")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	returned := make(chan answer, 1)
	go r.run(ctx, arguments, returned, log)
	select {
	case a := <-returned:
		return r.outcome(ctx, a, limit)
	case <-ctx.Done():
	}
	grace := time.NewTimer(toolGrace)
	defer grace.Stop()
	select {
	case a := <-returned:
		return r.outcome(ctx, a, limit)
	case <-grace.C:
	}
	log.WarnContext(ctx, "tool abandoned", "cause", ctx.Err())
	r.stuck.Add(1)
	go func() {
		<-returned
		r.stuck.Add(-1)
		log.Info("abandoned tool returned")
	}()
	return "", tookTooLong(limit)
}

// outcome returns the result of a call. If the call failed after its limit, it
// returns an error with that limit. A tool that succeeds at the last moment has succeeded.
func (r *registered) outcome(ctx context.Context, a answer, limit time.Duration) (string, error) {
	if a.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "", tookTooLong(limit)
	}
	return a.said, a.err
}

// tookTooLong is the error of a call that exceeded its limit. It wraps
// context.DeadlineExceeded for hooks.
type tookTooLong time.Duration

func (d tookTooLong) Error() string {
	return fmt.Sprintf("the tool took longer than %v", time.Duration(d))
}
func (tookTooLong) Unwrap() error { return context.DeadlineExceeded }

var errToolCrashed = errors.New("the tool crashed")

// run calls the function and always sends an answer. A panic becomes an error, and its
// stack is logged only.
func (r *registered) run(ctx context.Context, arguments json.RawMessage, returned chan<- answer, log *slog.Logger) {
	a := answer{err: errToolCrashed} // runtime.Goexit
	defer func() {
		if v := recover(); v != nil {
			log.ErrorContext(ctx, "tool panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
		returned <- a
	}()
	said, err := r.Call(ctx, arguments)
	a = answer{said, err}
}
