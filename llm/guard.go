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

// A call of a tool runs in a goroutine of its own, so that one that does not
// return holds up nothing but itself: soon after its time is over, or its run is
// to stop, it is left behind. It goes on in the background, and is counted until
// it returns, because a tool that never does would otherwise fill the memory one
// call after the other.

const (
	toolGrace = 50 * time.Millisecond // for a tool to return after its context has ended
	maxStuck  = 32                    // calls of one tool that were left behind and still go on
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

// within calls the tool and returns what it said, soon after the limit is over or
// ctx has ended at the latest.
func (r *registered) within(ctx context.Context, limit time.Duration, arguments json.RawMessage, log *slog.Logger) (string, error) {
	if r.stuck.Load() >= maxStuck {
		return "", errors.New("the tool is not available now: too many earlier calls of it have not returned")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	returned := make(chan answer, 1)
	go r.run(ctx, arguments, returned, log)
	select {
	case a := <-returned:
		return r.judge(ctx, a, limit)
	case <-ctx.Done():
	}
	grace := time.NewTimer(toolGrace)
	defer grace.Stop()
	select {
	case a := <-returned:
		return r.judge(ctx, a, limit)
	case <-grace.C:
	}
	log.WarnContext(ctx, "tool left behind: it did not return after its context had ended", "cause", ctx.Err())
	r.stuck.Add(1)
	go func() {
		<-returned
		r.stuck.Add(-1)
		log.Info("tool returned that had been left behind")
	}()
	return "", tookTooLong(limit)
}

// judge names the true reason of a call that failed because its time was over. A
// tool that succeeds at the last moment has succeeded.
func (r *registered) judge(ctx context.Context, a answer, limit time.Duration) (string, error) {
	if a.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "", tookTooLong(limit)
	}
	return a.said, a.err
}

// tookTooLong is the error of a call whose limit was over. Hooks know it as a
// context.DeadlineExceeded.
type tookTooLong time.Duration

func (d tookTooLong) Error() string {
	return fmt.Sprintf("the tool took longer than %v", time.Duration(d))
}
func (tookTooLong) Unwrap() error { return context.DeadlineExceeded }

var errToolCrashed = errors.New("the tool crashed")

// run calls the function and always has an answer: a panic becomes an error, the
// stack of which goes to the log only.
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
