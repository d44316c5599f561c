package bunstore

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// SweepRuns implements [webtrigger.WorkStore]. Each run is swept in a
// transaction of its own, so that a bad one holds up no other; runs that another
// process has locked are its own to sweep.
func (s *Store) SweepRuns(ctx context.Context, sweep webtrigger.Sweep) (swept []webtrigger.Run, _ error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	if sweep.Audit {
		if err := s.audit(ctx); err != nil {
			return nil, err
		}
	}
	for len(swept) < sweep.Limit {
		run, err := s.sweepOne(ctx, sweep)
		if err != nil || run == nil {
			return swept, err
		}
		swept = append(swept, *run)
	}
	return swept, nil
}

// sweepOne ends or requeues the run whose time has been over for the longest. It
// also forgets expired idempotency keys.
func (s *Store) sweepOne(ctx context.Context, sweep webtrigger.Sweep) (swept *webtrigger.Run, _ error) {
	err := s.write(ctx, "sweep runs", func(t *tx) error {
		swept = nil
		now, err := t.now()
		if err != nil {
			return err
		}
		if err := t.forgetExpired(100, now); err != nil {
			return err
		}
		q, err := t.overdue(sweep.MaxQueueTime, now)
		if q == nil || err != nil {
			return err
		}
		switch {
		case !q.leased:
			err = t.end(q, webtrigger.QueueTimeout(), nil, now)
		case q.stop == nil && q.attempts < sweep.MaxAttempts:
			err = t.requeue(q, webtrigger.RequeueHeartbeat, now)
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

// overdue locks the run whose time has been over for the longest: that of its
// lease, or that which it may wait. nil: there is none.
func (t *tx) overdue(maxQueueTime time.Duration, now time.Time) (*queueRow, error) {
	lost, err := one(scanQueueRow(t.row(t.ctx, `SELECT `+queueColumns+` FROM {queue}
		WHERE leased AND expires_at <= $1 ORDER BY expires_at, run_id LIMIT 1 {skip locked}`, t.at(now))))
	if err != nil || maxQueueTime == 0 {
		return lost, err
	}
	latest := now.Add(-maxQueueTime)
	if lost != nil && lost.expiresAt.Before(now) {
		latest = earliest(latest, lost.expiresAt.Add(-maxQueueTime))
	}
	late, err := one(scanQueueRow(t.row(t.ctx, `SELECT `+queueColumns+` FROM {queue}
		WHERE NOT leased AND waits_since < $1 ORDER BY waits_since, run_id LIMIT 1 {skip locked}`, t.at(latest))))
	if late != nil {
		return late, err
	}
	return lost, err
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// one is a row or nil.
func one(q *queueRow, err error) (*queueRow, error) {
	if err == sql.ErrNoRows {
		return nil, nil
	}
	return q, err
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
		rows, err := t.rows(t.ctx, `SELECT r.id FROM {runs} r WHERE r.id > $1 AND r.id <= $2 AND r.status IS NULL
			AND NOT EXISTS (SELECT 1 FROM {queue} q WHERE q.run_id = r.id)`, s.patrol.from, s.patrol.from+stretch)
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

// restore makes a queue row of what a run's events tell: one that was started is
// held by nobody and its lease is over.
func (t *tx) restore(runID int64) error {
	now, err := t.now()
	if err != nil {
		return err
	}
	restored, err := t.exec(t.ctx, `INSERT INTO {queue} (run_id, conversation_id, native, leased, token, batch, attempts,
			last_sequence, waits_since, started_at, expires_at, worker)
		SELECT r.id, r.conversation_id, $2, e.started > 0, r.id * 1048576 + e.started, 0, e.started, e.last, $3, e.at, CASE WHEN e.started > 0 THEN $3 END, ''
		FROM {runs} r, (SELECT count(CASE WHEN type = $4 THEN 1 END) AS started, coalesce(max(sequence), 0) AS last,
			max(CASE WHEN type = $4 THEN created_at END) AS at FROM {events}
			WHERE conversation_id = (SELECT conversation_id FROM {runs} WHERE id = $1) AND run_id = $1) e
		WHERE r.id = $1 AND r.status IS NULL
		ON CONFLICT (run_id) DO NOTHING`,
		runID, t.store.opts.Enqueue == nil, t.at(now), string(webtrigger.EventRunStarted))
	if err != nil || restored == 0 {
		return err
	}
	t.store.log.WarnContext(t.ctx, "queue row missing for unfinished run", "run_id", runID)
	return t.waits(runID, t.store.opts.Enqueue == nil)
}
