package webtrigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/hook"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// execution is one attempt of a run under way in this process.
//
// Its context ends with the cause that decides the outcome; its lease is lost
// when lost is closed, and then it writes nothing more.
type execution struct {
	s     *Service
	task  *Task // the Runner's own
	def   *TaskDefinition
	lease Lease
	slot  bool // it holds a slot of Work
	log   *slog.Logger
	out   *emitter

	run   Run              // as it was last known
	ended func(RunOutcome) // [Hooks.Run]

	ctx    context.Context
	cancel context.CancelFunc
	end    context.CancelCauseFunc

	expiry *time.Timer // runs lose when the lease was not renewed in time
	lost   chan struct{}
	lose   func()
}

func (s *Service) newExecution(claimed ClaimedRun, claimedAt time.Time) *execution {
	x := &execution{
		s: s, lease: claimed.Lease, lost: make(chan struct{}),
		run: claimed.Run,
		log: s.log.With(claimed.Run.logFields()...),
		task: &Task{
			Run: claimed.Run, Input: claimed.Input, Definition: claimed.Run.TaskDefinition,
			Prompt: prompt(claimed.Input.Message, claimed.Input.Context),
		},
	}
	if claimed.Run.TaskDefinition != nil {
		def := *claimed.Run.TaskDefinition
		def.OutputSchema = slices.Clone(def.OutputSchema)
		x.def = &def
	}
	var base context.Context
	base, x.ended = hook.Begin(context.Background(), s.opts.Hooks.Run, RunInfo{Run: claimed.Run})
	base, x.end = context.WithCancelCause(base)
	x.ctx, x.cancel = context.WithDeadlineCause(base, claimedAt.Add(s.opts.RunTimeout), ErrDeadline)
	x.lose = sync.OnceFunc(func() {
		close(x.lost)
		x.end(ErrLeaseLost)
	})
	// The lease is counted from before it was asked for: the store's own count
	// starts later.
	x.expiry = time.AfterFunc(s.opts.Lease-time.Since(claimedAt), x.lose)
	x.out = newEmitter(x.ctx, s.opts.DeltaInterval, x.append)
	return x
}

// execute runs the Runner and stores how it ended. It returns when the run is
// no longer this process's; an abandoned Runner may still be going.
func (x *execution) execute() {
	x.log.Info("run started", "assistant_id", x.task.Run.AssistantID, "attempt", x.task.Run.Attempts)
	returned := make(chan answer, 1)
	go x.call(returned)
	a, abandoned := x.wait(returned)
	cause := context.Cause(x.ctx)
	x.cancel()
	batch := x.out.close()

	switch {
	case cause == nil:
		x.finish(x.outcome(a), batch, transcript(a.result))
	case errors.Is(cause, ErrShutdown) && x.s.opts.MaxAttempts > 1:
		x.requeue(batch)
	case errors.Is(cause, ErrLeaseLost):
		x.log.Warn("lease lost", "effect", "this process writes nothing more about the run")
	default:
		x.finish(interrupted(cause, a.result), batch, transcript(a.result))
	}
	x.expiry.Stop()
	x.ended(RunOutcome{Run: x.run})
	x.s.worker.remove(x)
	if abandoned {
		_, returnedAfterAll := hook.Begin(context.WithoutCancel(x.ctx), x.s.opts.Hooks.Abandoned, AbandonedInfo{Run: x.run})
		x.log.Error("runner abandoned", "cause", cause, "effect", "its slot stays occupied until it returns")
		go func() {
			<-returned
			x.log.Info("abandoned runner returned")
			returnedAfterAll(AbandonedOutcome{})
			x.leaveSlot()
		}()
		return
	}
	x.leaveSlot()
}

// emit is the Runner's Emit.
func (x *execution) emit(typ EventType, payload any) error {
	event, err := newEvent(typ, payload)
	if err != nil {
		x.s.advice.rejected(err)
		return err
	}
	x.s.advice.checkDelta(event)
	return x.out.emit(event)
}

func (x *execution) leaveSlot() {
	if x.slot {
		x.s.worker.release()
	}
}

// answer is what a Runner returned.
type answer struct {
	result *Result
	err    error
}

// wait returns when the Runner has returned, or is to be given up: its context
// ended and the grace is over.
func (x *execution) wait(returned <-chan answer) (a answer, abandoned bool) {
	select {
	case a = <-returned:
		return a, false
	case <-x.ctx.Done():
	}
	grace := time.NewTimer(x.s.opts.CancelGrace)
	defer grace.Stop()
	if errors.Is(context.Cause(x.ctx), ErrDeadline) {
		x.recordDeadline()
	}
	select {
	case a = <-returned:
		return a, false
	case <-grace.C:
		return answer{}, true
	}
}

// recordDeadline makes the deadline decide, even against a cancellation that
// comes while the Runner winds up.
func (x *execution) recordDeadline() {
	ctx, cancel := context.WithTimeout(context.Background(), min(statementTimeout, x.s.opts.CancelGrace))
	defer cancel()
	if _, err := x.s.store.RequestStop(ctx, x.lease.RunID, DeadlineStop(), &x.lease); err != nil {
		x.log.Warn("deadline not recorded", "error", err)
	}
}

// call calls the Runner and always has an answer: a panic becomes an error, the
// stack of which goes to the log only.
func (x *execution) call(returned chan<- answer) {
	a := answer{err: failure("The assistant stopped without an answer.")} // runtime.Goexit
	defer func() {
		if v := recover(); v != nil {
			x.log.Error("runner panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			a = answer{err: failure("The assistant crashed.")}
		}
		returned <- a
	}()
	result, err := x.s.runner.Run(x.ctx, x.task, x.emit)
	a = answer{result, err}
}

// failure is a reason in a sentence of our own for a run's error_message.
type failure string

func (f failure) Error() string { return string(f) }

// outcome is how a run ends whose Runner returned by itself.
func (x *execution) outcome(a answer) Outcome {
	result := a.result
	if result == nil {
		result = &Result{}
	}
	o := Outcome{Status: RunFailed, Usage: result.Usage}
	text := wire.ValidText(result.Text)
	err := a.err
	if err == nil && len(text) > MaxResultBytes {
		err = failure("The result is larger than 1 MiB.")
	}
	if err == nil {
		err = x.checkOutput(text)
	}
	if err != nil {
		o.ErrorMessage = wire.Truncate(wire.ValidText(err.Error()), maxErrorMessageBytes)
		if blank(o.ErrorMessage) {
			o.ErrorMessage = "The assistant failed without saying why."
		}
		return o
	}
	o.Status, o.Result = RunCompleted, text
	return o
}

// maxErrorMessageBytes bounds an error_message, in bytes.
const maxErrorMessageBytes = 8 << 10

// checkOutput holds a result to the task definition's output type and schema.
func (x *execution) checkOutput(text string) error {
	def := x.def
	if def == nil || def.OutputType != OutputJSON {
		return nil
	}
	if !json.Valid([]byte(text)) {
		return failure("The result is not valid JSON, which the task definition asks for.")
	}
	if def.OutputSchema == nil {
		return nil
	}
	if x.s.opts.CompileSchema == nil {
		return failure("The result cannot be checked: this server has no schema compiler.")
	}
	check, err := x.s.opts.CompileSchema(def.OutputSchema)
	if err == nil {
		err = check(json.RawMessage(text))
	}
	if err != nil {
		return failure("The result does not meet the task definition's schema: " + err.Error())
	}
	return nil
}

// interrupted is how a run ends whose context ended first. The cause decides;
// what the Runner consumed meanwhile was consumed.
func interrupted(cause error, result *Result) Outcome {
	var o Outcome
	if result != nil {
		o.Usage = result.Usage
	}
	switch {
	case errors.Is(cause, ErrCancelled):
		stop := CancelStop("")
		return o.Under(&stop)
	case errors.Is(cause, ErrDeadline):
		stop := DeadlineStop()
		return o.Under(&stop)
	}
	o.Status, o.StatusDetail = RunFailed, "interrupted by shutdown"
	o.ErrorMessage = "The run was interrupted because the server shut down."
	return o
}

func transcript(result *Result) []NewMessage {
	if result == nil {
		return nil
	}
	messages := make([]NewMessage, len(result.Messages))
	for i, m := range result.Messages {
		messages[i] = NewMessage{Role: m.Role, Content: wire.ValidText(m.Content)}
	}
	return messages
}

func (x *execution) finish(o Outcome, batch EventBatch, messages []NewMessage) {
	x.persist("finish run", func(ctx context.Context) error {
		run, err := x.s.store.FinishRun(ctx, x.lease, Finish{Outcome: o, Events: batch, Messages: messages})
		if err == nil {
			x.log.Info("run ended", "status", run.Status, "status_detail", run.StatusDetail)
			x.run = run
			x.s.opts.Hooks.ended(x.ctx, run)
		}
		return err
	})
}

func (x *execution) requeue(batch EventBatch) {
	x.persist("requeue run", func(ctx context.Context) error {
		run, err := x.s.store.RequeueRun(ctx, x.lease, batch)
		if err == nil {
			x.log.Info("run requeued", "status", run.Status)
			x.run = run
			x.s.opts.Hooks.ended(x.ctx, run) // a recorded stop has ended it
		}
		return err
	})
}

func (x *execution) append(batch EventBatch) error {
	return x.persist("append events", func(ctx context.Context) error {
		return x.s.store.AppendEvents(ctx, x.lease, batch)
	})
}

// persist repeats a write of this execution until it is stored or the lease is
// lost. Every such write may be repeated: a batch has its number, and an end is
// an end once. An error that is not the store's absence gets a few tries; what
// cannot be stored then is left to the sweep.
func (x *execution) persist(what string, write func(context.Context) error) error {
	const tries = 5
	pause := 20 * time.Millisecond
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
		err := write(ctx)
		cancel()
		if err == nil {
			return nil
		}
		away := errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
		if errors.Is(err, ErrLeaseLost) || (!away && try == tries) {
			x.log.Warn("run write failed", "operation", what, "error", err)
			x.lose()
			return err
		}
		x.log.Warn("run write failed", "operation", what, "retry_in", pause, "error", err)
		select {
		case <-x.lost:
			return ErrLeaseLost
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}

// keepAlive registers an execution for heartbeats. One goroutine per process
// renews the leases of all its executions with one call; it lives as long as
// there is any.
func (s *Service) keepAlive(x *execution) {
	if s.worker.add(x) {
		go s.heartbeats()
	}
}

func (s *Service) heartbeats() {
	tick := time.NewTicker(min(s.opts.Lease/3, pollInterval))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.worker.beat:
		}
		under := s.worker.snapshot()
		if under == nil {
			return
		}
		s.renew(under)
	}
}

// renew renews the leases of the executions. What it cannot renew loses its
// lease when the time is over that was granted last.
func (s *Service) renew(executions []*execution) {
	leases := make([]Lease, len(executions))
	for i, x := range executions {
		leases[i] = x.lease
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(s.opts.Lease/3, statementTimeout))
	defer cancel()
	sent := time.Now() // the store's count starts later, so ours ends earlier
	renewals, err := s.store.RenewLeases(ctx, leases, s.opts.Lease)
	if err != nil {
		s.log.Warn("lease renewal failed", "error", err, "runs", len(leases))
		return
	}
	for i, x := range executions {
		switch r := renewals[i]; {
		case !r.Renewed:
			x.lose()
		case x.expiry.Stop():
			x.expiry.Reset(s.opts.Lease - time.Since(sent))
			x.obey(r.Stop)
		}
	}
}

// obey ends the execution's context when a stop is recorded for its run.
func (x *execution) obey(stop *Stop) {
	switch {
	case stop == nil:
	case stop.Status == RunCancelled:
		x.end(ErrCancelled)
	default:
		x.end(ErrDeadline)
	}
}
