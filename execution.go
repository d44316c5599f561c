package webtrigger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
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
	processID string          // under which the run is claimed
	task      *Task           // the Runner's own
	def       *TaskDefinition // not the Runner's
	lease     Lease
	slot      bool // it began in a slot of Work
	left      bool // it has left its slot; guarded by worker.mu, as overdue is
	overdue   bool // see worker.lend
	ending    bool // its last write is in progress; guarded by process.mu
	log       *slog.Logger
	out       *emitter

	run   *Run             // as it was last known; replaced, never changed
	ended func(RunOutcome) // [Hooks.Run]

	ctx    context.Context
	cancel context.CancelFunc
	end    context.CancelCauseFunc

	done chan struct{} // closed when execute returns

	writes     context.Context // of the calls of the store; ends by ErrLeaseLost or errPostponed
	stopWrites context.CancelCauseFunc
	unstored   EventBatch // the batch whose append was postponed
	unstorable bool       // the store does not accept a batch

	asks      asks // the requests for input of the Runner
	requeued  bool // earlier attempts may have made some
	claimedAt time.Time
	executed  time.Duration // executing time of the attempt before it waited for input
}

func (s *Service) newExecution(claimed ClaimedRun, processID string, claimedAt time.Time) *execution {
	run := claimed.Run
	x := &execution{
		s: s, lease: claimed.Lease, processID: processID, done: make(chan struct{}),
		run: &run, claimedAt: claimedAt, executed: claimed.Executed, requeued: claimed.Requeued,
		log: s.log.With(claimed.Run.logFields()...),
		task: &Task{
			Run: claimed.Run, Input: claimed.Input,
			Prompt: prompt(claimed.Input.Message, claimed.Input.Context),
		},
	}
	x.task.execution = x
	x.def, x.task.Definition = claimed.Run.TaskDefinition.clone(), claimed.Run.TaskDefinition.clone()
	x.run.TaskDefinition, x.task.Run.TaskDefinition = x.def, x.task.Definition
	var base context.Context
	base, x.ended = hook.Begin(context.Background(), s.opts.Hooks.Run, RunInfo{Run: claimed.Run})
	base, x.end = context.WithCancelCause(base)
	x.ctx, x.cancel = context.WithDeadlineCause(base, claimedAt.Add(s.opts.RunTimeout-claimed.Executed), ErrDeadline)
	x.writes, x.stopWrites = context.WithCancelCause(context.Background())
	x.out = newEmitter(x.ctx, s.opts.DeltaInterval, x.append)
	x.task.journal = newJournal(x.out, nil, func() { x.end(ErrStepsMismatch) })
	if claimed.Requeued {
		x.task.journal.load = x.readSteps
	}
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
	if x.slot && !abandoned {
		lend := time.AfterFunc(slotPatience, func() { x.s.worker.lend(x) })
		defer lend.Stop()
	}
	cause := context.Cause(x.ctx)
	x.cancel()
	batch := x.out.close()
	var await *Await
	if cause == nil || errors.Is(cause, ErrShutdown) {
		await = x.asks.waits(a.err)
	}

	switch {
	case x.isLost():
	case x.unstorable:
		x.finish(notStored())
	case await != nil:
		x.await(*await, batch)
	case cause == nil:
		messages, err := transcript(a.result)
		if a.err == nil {
			a.err = err
		}
		x.finish(Finish{Outcome: x.outcome(a), Events: batch, Messages: messages})
	case errors.Is(cause, ErrLeaseLost): // the lease has expired, and the run is perhaps not swept yet
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
	x.ended(RunOutcome{Run: *x.run})
	x.s.process.remove(x)
	if x.s.opts.Limits.limitsRunning() && (!x.slot || abandoned) {
		x.s.worker.look() // a run that was over its limit can start, although no slot becomes free
	}
	if x.slot {
		x.s.worker.vacate()
	}
	if abandoned {
		_, returnedAfterAll := hook.Begin(context.WithoutCancel(x.ctx), x.s.opts.Hooks.Abandoned, AbandonedInfo{Run: *x.run})
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
		x.s.worker.release(x)
	}
}

// answer is what a Runner returned.
type answer struct {
	result *Result
	err    error
}

// wait returns when the Runner has returned, or must be abandoned: its context ended
// and the grace is over.
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
	if err := x.readHistory(); err != nil {
		a = answer{err: err}
		return
	}
	result, err := x.s.runner.Run(x.ctx, x.task, x.emit)
	a = answer{result, plainError(err)}
}

// readHistory sets the earlier messages of the task.
func (x *execution) readHistory() error {
	run := &x.task.Run
	if !run.Continues {
		return nil
	}
	query := HistoryQuery{ConversationID: run.ConversationID, BeforeRunID: run.ID,
		MaxMessages: x.s.opts.History.MaxMessages, MaxBytes: x.s.opts.History.MaxBytes}
	err := x.read(x.ctx, "history", func(ctx context.Context) error {
		messages, err := x.s.store.History(ctx, query)
		for len(messages) > 0 && messages[0].Role == RoleTool {
			messages = messages[1:] // its call is not among them
		}
		x.task.History = messages
		return err
	})
	if errors.Is(err, errUnreadable) {
		return failure("The earlier messages of the conversation could not be read.")
	}
	return err
}

// outcome is how a run ends whose Runner returned by itself.
func (x *execution) outcome(a answer) Outcome {
	result := a.result
	if result == nil {
		result = &Result{}
	}
	o := Outcome{Status: RunFailed, Usage: result.Usage}
	text := wire.ValidText(result.Text)
	err := x.asks.outcome(a.err)
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

// checkOutput holds a result to the task definition's output type and schema. A panic of the
// host's check fails this run only.
func (x *execution) checkOutput(text string) (err error) {
	defer func() {
		if v := recover(); v != nil {
			x.log.Error("result check panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = failure("The result cannot be checked: the schema compiler crashed.")
		}
	}()
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
	case errors.Is(cause, ErrStepsMismatch):
		o.Status, o.ErrorMessage = RunFailed, "the recorded steps do not fit this Runner"
		return o
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
		messages[i] = NewMessage{Role: m.Role, Content: wire.ValidText(m.Content), ToolCallID: wire.ValidText(m.ToolCallID)}
		for _, c := range m.ToolCalls {
			var arguments bytes.Buffer
			if err := json.Compact(&arguments, []byte(wire.ValidText(string(c.Arguments)))); err != nil {
				return nil, failure("The transcript has a tool call whose arguments are not JSON.")
			}
			messages[i].ToolCalls = append(messages[i].ToolCalls, ToolCall{wire.ValidText(c.ID), wire.ValidText(c.Name), arguments.Bytes()})
		}
		if size += messages[i].Size(); size > MaxResultMessagesBytes {
			return nil, failure("The transcript is larger than 4 MiB.")
		}
	}
	return messages, nil
}

// errPostponed reports that the time for the writes of an execution is over. The
// heartbeats continue with the last one.
var errPostponed = errors.New("webtrigger: write postponed")

// errNotStored reports that the store does not accept a write.
var errNotStored = errors.New("webtrigger: write not stored")

// lose ends the execution because its claim has ended. It writes nothing more.
func (x *execution) lose() {
	x.stopWrites(ErrLeaseLost)
	x.end(ErrLeaseLost)
}

func (x *execution) isLost() bool { return context.Cause(x.writes) == ErrLeaseLost }

// postpone leaves the last write to the heartbeats, if it is not stored yet.
func (x *execution) postpone() { x.stopWrites(errPostponed) }

// obey ends the execution's context when a stop is recorded for its run.
func (x *execution) obey(stop *Stop) {
	if stop.Status == RunCancelled {
		x.end(ErrCancelled)
		return
	}
	x.end(ErrDeadline)
}

// append stores a batch of events. If the store does not accept it, the run ends.
func (x *execution) append(batch EventBatch) error {
	err := x.persist("append events", func(ctx context.Context) error {
		return x.s.store.AppendEvents(ctx, x.lease, batch)
	})
	switch {
	case errors.Is(err, errPostponed):
		x.unstored = batch
	case errors.Is(err, errNotStored):
		x.unstorable = true
		x.end(ErrLeaseLost)
	}
	return err
}

// notStored is the end of a run whose own end the store does not accept. It has
// nothing that came from the Runner.
func notStored() Finish {
	return Finish{Outcome: Outcome{Status: RunFailed, ErrorMessage: "The result could not be stored."}}
}

func (x *execution) finish(end Finish) {
	end.Claimed = x.run
	x.conclude("finish run", func(ctx context.Context) (Run, error) {
		return x.s.store.FinishRun(ctx, x.lease, end)
	})
}

func (x *execution) requeue(requeue Requeue) {
	x.conclude("requeue run", func(ctx context.Context) (Run, error) {
		return x.s.store.RequeueRun(ctx, x.lease, requeue)
	})
}

// await makes the run wait for input.
func (x *execution) await(await Await, batch EventBatch) {
	await.Executed, await.Events = x.executed+time.Since(x.claimedAt), batch
	x.conclude("await input", func(ctx context.Context) (Run, error) {
		return x.s.store.AwaitInput(ctx, x.lease, await)
	})
}

// conclude makes the write that ends the claim. If the store does not accept it, the
// run ends as failed. If the store does not accept that either, or the time for writes
// is over, heartbeats repeat the write.
func (x *execution) conclude(operation string, end func(context.Context) (Run, error)) {
	x.s.process.ending(x)
	write := func(ctx context.Context) (Run, error) {
		if x.unstored.Number > 0 {
			if err := x.s.store.AppendEvents(ctx, x.lease, x.unstored); err != nil {
				return Run{}, err
			}
		}
		return end(ctx)
	}
	u := &unsettled{lease: x.lease, operation: operation, write: write, task: x.def, ctx: context.WithoutCancel(x.ctx), log: x.log}
	err := x.try(u)
	if errors.Is(err, errNotStored) {
		u.giveUp(x.s.store)
		err = x.try(u)
	}
	if errors.Is(err, errNotStored) || errors.Is(err, errPostponed) {
		x.log.Error("run end not stored", "error", err, "effect", "heartbeats try again while the process lives")
		x.s.process.unsettle(x, u)
	}
}

// try makes the write of u until its outcome is known.
func (x *execution) try(u *unsettled) error {
	return x.persist(u.operation, func(ctx context.Context) error {
		run, err := u.write(ctx)
		if err == nil {
			run.TaskDefinition = cmp.Or(run.TaskDefinition, u.task)
			x.run = &run
			x.s.settledRun(u, run)
		}
		return err
	})
}

// persist repeats a write of this execution until it is stored. Every such write may
// be repeated: a batch has its number, and an end its token. It also returns
// ErrLeaseLost if the lease is lost, errPostponed if the time is over, and errNotStored
// after five errors that are not the store's unavailability. An unavailable store is
// tried again for as long as it takes.
func (x *execution) persist(operation string, write func(context.Context) error) error {
	const tries = 5
	pause := 20 * time.Millisecond
	for failures := 0; x.writes.Err() == nil; {
		ctx, cancel := context.WithTimeout(x.writes, statementTimeout)
		err := write(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if x.writes.Err() != nil {
			break
		}
		if errors.Is(err, ErrLeaseLost) {
			x.log.Warn("run write failed", "operation", operation, "error", err)
			x.lose()
			return err
		}
		if !storeAway(err) {
			failures++
		}
		if failures == tries {
			x.log.Warn("run write failed", "operation", operation, "error", err)
			return errNotStored
		}
		wait := pause - rand.N(pause/4)
		x.log.Warn("run write failed", "operation", operation, "retry_in", wait, "error", err)
		select {
		case <-x.writes.Done():
		case <-time.After(wait):
			pause = min(2*pause, time.Second)
		}
	}
	return context.Cause(x.writes)
}
