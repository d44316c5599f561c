package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// SweepRuns implements [webtrigger.WorkStore]. Each run is swept in a transaction of
// its own, so that a bad one does not delay the others. Runs that another transaction has
// locked are left to the next sweep.
func (s *Store) SweepRuns(ctx context.Context, sweep webtrigger.Sweep) (swept []webtrigger.Run, _ error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	if sweep.Audit {
		if err := s.audit(ctx); err != nil {
			return nil, err
		}
	}
	found, err := s.overdue(ctx, sweep)
	if err != nil {
		return nil, err
	}
	for _, o := range found {
		if len(swept) == sweep.Limit {
			break
		}
		run, err := s.sweepOne(ctx, sweep, o)
		if errors.Is(err, webtrigger.ErrUnavailable) || ctx.Err() != nil {
			return swept, err
		} else if err != nil {
			s.log.ErrorContext(ctx, "sweep of a run failed", "run_id", o.runID, "error", err)
		} else if run != nil {
			swept = append(swept, *run)
		}
	}
	return swept, nil
}

// overdueRun is a run that a sweep has found.
type overdueRun struct {
	runID   int64
	running bool
	token   int64     // of the claim
	since   time.Time // when its lease ended, or since when it is queued
	due     time.Time // when it was due to be swept
}

// overdue finds the runs to sweep, those first that were due first: more than the
// limit, as others may have some of them. It locks none. It also deletes expired
// idempotency records.
func (s *Store) overdue(ctx context.Context, sweep webtrigger.Sweep) (found []overdueRun, _ error) {
	limit := sweep.Limit + 100
	err := s.write(ctx, "sweep runs", func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		if err := t.forgetExpired(100, now); err != nil {
			return err
		}
		scan := func(wait time.Duration) func(row scanner) (overdueRun, error) {
			return func(row scanner) (o overdueRun, _ error) {
				err := row.Scan(&o.runID, &o.running, &o.token, stamp{&o.since})
				o.due = o.since.Add(wait)
				return o, err
			}
		}
		rows, err := t.rows(t.ctx, `SELECT run_id, true, token, expires_at FROM {queue}
			WHERE state = 'r' AND expires_at <= $1 ORDER BY expires_at, run_id LIMIT $2`, t.at(now), limit)
		if found, err = collect(rows, err, scan(0)); err != nil || sweep.MaxQueueTime == 0 {
			return err
		}
		rows, err = t.rows(t.ctx, `SELECT run_id, false, token, waits_since FROM {queue}
			WHERE state = 'q' AND waits_since < $1 ORDER BY waits_since, run_id LIMIT $2`, t.at(now.Add(-sweep.MaxQueueTime)), limit)
		late, err := collect(rows, err, scan(sweep.MaxQueueTime))
		found = append(found, late...)
		slices.SortStableFunc(found, func(a, b overdueRun) int { return a.due.Compare(b.due) })
		return err
	})
	return found, err
}

// sweepOne ends or requeues a run, unless another transaction has locked or changed it.
func (s *Store) sweepOne(ctx context.Context, sweep webtrigger.Sweep, o overdueRun) (swept *webtrigger.Run, _ error) {
	err := s.write(ctx, "sweep run", func(t *tx) error {
		swept = nil
		q, err := t.lock(o.runID, skipLocked)
		if err == sql.ErrNoRows {
			return nil
		} else if err != nil {
			return err
		}
		now, err := t.now()
		if err != nil {
			return err
		}
		switch {
		case q.running != o.running || q.token != o.token:
			return nil
		case !q.running && !q.waitsSince.Equal(o.since):
			return nil
		case !q.running:
			err = t.end(q, webtrigger.QueueTimeout(), nil, now)
		case now.Before(q.expiresAt): // renewed
			return nil
		case q.stop == nil && q.attempts < sweep.MaxAttempts:
			err = t.requeue(q, webtrigger.RequeueHeartbeat, true, now)
		default:
			err = t.end(q, webtrigger.HeartbeatTimeout(), nil, now)
		}
		if err != nil {
			return err
		}
		run, err := t.run(q.runID)
		swept = &run
		return err
	})
	return swept, err
}

// patrol is how far the audit has come. It looks at a stretch of run ids at a
// time, so that its cost does not grow with the number of runs.
type patrol struct {
	mu   sync.Mutex
	from int64 // the ids up to this one have been looked at
}

// stretch is how many run ids one audit looks at.
const stretch = 50_000

// audit gives unfinished runs that have no row in the queue one again: no sweep
// would ever find them. This store loses none; a restored backup or a hand in the
// database may.
func (s *Store) audit(ctx context.Context) error {
	s.patrol.mu.Lock()
	defer s.patrol.mu.Unlock()
	var newest sql.NullInt64
	err := s.write(ctx, "audit runs", func(t *tx) error {
		if err := t.row(t.ctx, `SELECT max(id) FROM {runs}`).Scan(&newest); err != nil {
			return err
		}
		rows, err := t.rows(t.ctx, `SELECT r.id FROM {runs} r WHERE r.id > $1 AND r.id <= $2
			AND NOT EXISTS (SELECT 1 FROM {ends} e WHERE e.run_id = r.id) AND NOT EXISTS (SELECT 1 FROM {queue} q WHERE q.run_id = r.id)`, s.patrol.from, s.patrol.from+stretch)
		lost, err := collect(rows, err, func(row scanner) (id int64, _ error) { return id, row.Scan(&id) })
		if err != nil {
			return err
		}
		for _, runID := range lost {
			if err := t.restore(runID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.patrol.from += stretch; s.patrol.from >= newest.Int64 {
		s.patrol.from = 0
	}
	return nil
}

// restore makes a queue row of what a run's stored events tell. A run that may have
// been claimed gets an expired lease that no process has. One of a single
// conversation always may have been: no event that would show it is stored.
func (t *tx) restore(runID int64) error {
	now, err := t.now()
	if err != nil {
		return err
	}
	restored, err := t.exec(t.ctx, `INSERT INTO {queue} (run_id, conversation_id, key_id, token, batch, last_sequence, started_sequence, waits_since,
			started_at, expires_at, attempts, state, native, bounded, shared, assistant_id)
		SELECT r.id, r.conversation_id, r.key_id, r.id * 1048576 + e.started + CASE WHEN c.id IS NULL THEN 1 ELSE 0 END, 0,
			CASE WHEN c.id IS NULL AND e.last < e.requeued + 1 THEN e.requeued + 1 ELSE e.last END, CASE WHEN c.id IS NULL THEN e.requeued + 1 ELSE 0 END, $3,
			coalesce(e.at, CASE WHEN c.id IS NULL THEN CAST($3 AS {time}) END), CASE WHEN c.id IS NULL OR e.started > 0 THEN CAST($3 AS {time}) END,
			e.started + CASE WHEN c.id IS NULL THEN 1 ELSE 0 END, CASE WHEN c.id IS NULL OR e.started > 0 THEN 'r' ELSE 'q' END,
			$2, false, c.id IS NOT NULL, r.assistant_id
		FROM {runs} r LEFT JOIN {conversations} c ON c.id = r.conversation_id, (
			SELECT count(CASE WHEN type = $4 THEN 1 END) AS started, coalesce(max(sequence), 0) AS last,
				coalesce(max(CASE WHEN type = $5 THEN sequence END), 1) AS requeued, max(CASE WHEN type = $4 THEN created_at END) AS at
			FROM {events} WHERE conversation_id = (SELECT conversation_id FROM {runs} WHERE id = $1) AND run_id = $1) e
		WHERE r.id = $1 AND NOT EXISTS (SELECT 1 FROM {ends} WHERE run_id = $1)
		ON CONFLICT (run_id) DO NOTHING`,
		runID, t.store.opts.Enqueue == nil, t.at(now), string(webtrigger.EventRunStarted), string(webtrigger.EventRunRequeued))
	if err != nil || restored == 0 {
		return err
	}
	t.store.log.WarnContext(t.ctx, "queue row missing for unfinished run", "run_id", runID)
	q, err := t.lock(runID, forUpdate)
	if err != nil || q.running {
		return err
	}
	return t.waits(q)
}
