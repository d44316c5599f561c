package bunstore

import (
	"context"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// ClaimRuns implements [webtrigger.WorkStore].
func (s *Store) ClaimRuns(ctx context.Context, claim webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	if s.postgres {
		return s.pgClaim(ctx, claim)
	}
	return s.claimAlone(ctx, claim)
}

// appending is a batch of events to be appended.
type appending struct {
	lease webtrigger.Lease
	batch webtrigger.EventBatch
}

// AppendEvents implements [webtrigger.WorkStore]. Calls that come together share
// a commit.
func (s *Store) AppendEvents(ctx context.Context, lease webtrigger.Lease, batch webtrigger.EventBatch) error {
	_, err := s.appends.do(ctx, appending{lease, batch})
	return err
}

func weighAppending(a appending) int {
	return 64 + weighEvents(a.batch.Events) + weighSteps(a.batch.Steps)
}

func weighEvents(events []webtrigger.NewEvent) (n int) {
	for _, e := range events {
		n += 64 + len(e.Type) + len(e.Payload)
	}
	return n
}

// runAppends appends a batch of batches.
func (s *Store) runAppends(ctx context.Context, calls []*call[appending, struct{}]) error {
	if s.postgres {
		return s.pgAppend(ctx, calls)
	}
	return s.write(ctx, "append events", func(t *tx) error {
		for _, c := range calls {
			if c.err = t.append(c.arg.lease, c.arg.batch); c.err != nil && !decided(c.err) {
				return c.err
			}
		}
		return nil
	})
}

// ending is a run to be ended by its worker's report.
type ending struct {
	lease webtrigger.Lease
	end   webtrigger.Finish
}

// known reports whether the end needs no read of the run.
func (e *ending) known() bool {
	run := e.end.Claimed
	return run != nil && run.ID == e.lease.RunID && run.CallbackURL == ""
}

// FinishRun implements [webtrigger.WorkStore]. Calls that come together share a
// commit.
func (s *Store) FinishRun(ctx context.Context, lease webtrigger.Lease, end webtrigger.Finish) (webtrigger.Run, error) {
	return s.ends.do(ctx, ending{lease, end})
}

func weighEnding(e ending) int {
	o := &e.end.Outcome
	n := 256 + len(o.Status) + len(o.StatusDetail) + len(o.ErrorMessage) + len(o.Result) + weighEvents(e.end.Events.Events) + weighSteps(e.end.Events.Steps)
	for _, m := range e.end.Messages {
		n += 64*(1+len(m.ToolCalls)) + len(m.Role) + m.Size()
	}
	return n
}

// runEnds ends a batch of runs.
func (s *Store) runEnds(ctx context.Context, calls []*call[ending, webtrigger.Run]) error {
	if s.postgres {
		return s.pgFinish(ctx, calls)
	}
	return s.write(ctx, "finish run", func(t *tx) error {
		for _, c := range calls {
			if c.result, c.err = t.finish(c.arg.lease, c.arg.end); c.err != nil && !decided(c.err) {
				return c.err
			}
		}
		return nil
	})
}

// appendAlone appends one batch in a transaction of its own.
func (s *Store) appendAlone(ctx context.Context, a appending, patience time.Duration) (none struct{}, _ error) {
	return none, s.write(ctx, "append events", func(t *tx) error {
		if err := t.hurry(patience); err != nil {
			return err
		}
		return t.append(a.lease, a.batch)
	})
}

// finishAlone ends one run in a transaction of its own.
func (s *Store) finishAlone(ctx context.Context, e ending, patience time.Duration) (run webtrigger.Run, _ error) {
	err := s.write(ctx, "finish run", func(t *tx) (err error) {
		if err := t.hurry(patience); err != nil {
			return err
		}
		run, err = t.finish(e.lease, e.end)
		return err
	})
	return run, err
}
