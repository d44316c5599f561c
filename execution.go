package webtrigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/hook"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// execution is one attempt of a run that this process executes.
//
// Its context ends with the cause that decides the outcome. Its writes continue after
// that, until the last one is stored, the lease is lost, or they are postponed.
type execution struct {
	s         *Service
	processID string // under which the run is claimed
	task      *Task  // the Runner's own
	def       *TaskDefinition
	lease     Lease
	slot      bool // it holds a slot of Work
	ending    bool // its last write is in progress; guarded by process.mu
	log       *slog.Logger
	out       *emitter

	run   Run              // as it was last known
	ended func(RunOutcome) // [Hooks.Run]

	ctx    context.Context
	cancel context.CancelFunc
	end    context.CancelCauseFunc

	done chan struct{} // closed when execute returns

	writes     context.Context // of the calls of the store; ends by ErrLeaseLost or errPostponed
	stopWrites context.CancelCauseFunc
	unstored   EventBatch // the batch whose append was postponed
	unstorable bool       // the store does not accept a batch
}

func (s *Service) newExecution(claimed ClaimedRun, processID string, claimedAt time.Time) *execution {
	x := &execution{
		s: s, lease: claimed.Lease, processID: processID, done: make(chan struct{}),
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
	x.writes, x.stopWrites = context.WithCancelCause(context.Background())
	x.out = newEmitter(x.ctx, s.opts.DeltaInterval, x.append)
	return x
}

// execute runs the Runner and stores how it ended. It returns when the claim has ended,
// is lost, or is left to the heartbeats. An abandoned Runner may still work then.
func (x *execution) execute() {
	defer close(x.done)
	x.log.Info("run started", "assistant_id", x.task.Run.AssistantID, "attempt", x.task.Run.Attempts)
	returned := make(chan answer, 1)
	go x.call(returned)
	a, abandoned := x.wait(returned)
	cause := context.Cause(x.ctx)
	x.cancel()
	batch := x.out.close()

	switch {
	case x.isLost():
	case x.unstorable:
		x.finish(notStored())
	case cause == nil:
		messages, err := transcript(a.result)
		if a.err == nil {
			a.err = err
		}
		x.finish(Finish{Outcome: x.outcome(a), Events: batch, Messages: messages})
	case errors.Is(cause, ErrLeaseLost): // the lease is over, and perhaps nobody has swept the run
		x.requeue(Requeue{Reason: RequeueHeartbeat, Events: batch})
	case errors.Is(cause, ErrShutdown) && x.s.opts.MaxAttempts > 1:
		x.requeue(Requeue{Reason: RequeueShutdown, Events: batch})
	default:
		messages, _ := transcript(a.result) // none if it is too long
		x.finish(Finish{Outcome: interrupted(cause, a.result), Events: batch, Messages: messages})
	}
	if x.isLost() {
		x.log.Warn("lease lost", "effect", "this process writes nothing more about the run")
	}
	x.ended(RunOutcome{Run: x.run})
	x.s.process.remove(x)
	if x.s.opts.Limits.limitsRunning() && (!x.slot || abandoned) {
		x.s.worker.look() // a run that was over its limit can start, although no slot becomes free
	}
	if x.slot {
		x.s.worker.vacate()
	}
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

// transcript returns the messages to store, or an error if there are too many.
func transcript(result *Result) ([]NewMessage, error) {
	if result == nil {
		return nil, nil
	}
	if len(result.Messages) > MaxResultMessages {
		return nil, failure("The transcript has more than 1,000 messages.")
	}
	messages, size := make([]NewMessage, len(result.Messages)), 0
	for i, m := range result.Messages {
		messages[i] = NewMessage{Role: m.Role, Content: wire.ValidText(m.Content)}
		if size += len(messages[i].Content); size > MaxResultMessagesBytes {
			return nil, failure("The transcript is larger than 4 MiB.")
		}
	}
	return messages, nil
}
