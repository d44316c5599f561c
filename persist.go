package webtrigger

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// errPostponed reports that the time for the writes of an execution is over. The
// heartbeats continue with the last one.
var errPostponed = errors.New("webtrigger: write postponed")

// errNotStored reports that the store does not accept a write.
var errNotStored = errors.New("webtrigger: write not stored")

// lose ends the execution because its claim is gone. It writes nothing more.
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
	x.conclude("finish run", func(ctx context.Context) (Run, error) {
		return x.s.store.FinishRun(ctx, x.lease, end)
	})
}

func (x *execution) requeue(requeue Requeue) {
	x.conclude("requeue run", func(ctx context.Context) (Run, error) {
		return x.s.store.RequeueRun(ctx, x.lease, requeue)
	})
}

// conclude makes the write that ends the claim. If the store does not accept it, the
// run ends as failed. If the store does not accept that either, or the time for writes
// is over, heartbeats repeat the write.
func (x *execution) conclude(operation string, end func(context.Context) (Run, error)) {
	x.s.process.ending(x)
	write := func(ctx context.Context) (Run, error) {
		if len(x.unstored.Events) > 0 {
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
			x.run = run
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
