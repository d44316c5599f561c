package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

const (
	sweepTimeout = 3 * time.Second  // of one run: a blocked run must not use up the time of the others
	sweepSpare   = 1000             // runs that a sweep finds beyond its limit, since it may skip some
	sweepErrors  = 10               // runs in a row for which the store is unavailable, after which a sweep ends
	keepLost     = 10 * time.Minute // how long a lost process without claims stays
)

// SweepRuns implements [webtrigger.WorkStore]. The mark of lost processes is committed
// before their claims are read. Each run is swept in a transaction of its own. A run
// that another transaction has locked is left to the next sweep, and so are the runs of an
// assistant for which Options.Enqueue has hung.
func (s *Store) SweepRuns(ctx context.Context, sweep webtrigger.Sweep) (swept []webtrigger.Run, _ error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	errs := []error{s.markLost(ctx, sweep.ProcessID)}
	if sweep.Audit {
		errs = append(errs, s.audit(ctx), s.repairLanes(ctx))
	}
	found, err := s.overdue(ctx, sweep)
	errs = append(errs, err)
	unavailable, hung := 0, make(map[string]bool)
	for _, o := range found {
		if len(swept) == sweep.Limit || ctx.Err() != nil || unavailable == sweepErrors {
			break
		}
		run, err := s.sweepOne(ctx, o, !hung[o.assistantID])
		failed, ofHook := hookFailed(err)
		if ofHook && failed.hung {
			hung[o.assistantID] = true
		}
		if unavailable++; ofHook || !errors.Is(err, webtrigger.ErrUnavailable) {
			unavailable = 0
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("run %d: %w", o.runID, err))
		} else if run != nil {
			swept = append(swept, *run)
		}
	}
	errs = append(errs, s.deleteLost(ctx), s.deleteExpired(ctx))
	if sweep.Audit {
		errs = append(errs, s.deleteCopies(ctx))
	}
	return swept, errors.Join(errs...)
}

// markTexts mark the expired processes as lost that a process may sweep. The mark is
// the fence: after it, no renewal of the process succeeds. Arguments: the sweeping
// process; on SQLite, the time.
//
// A process cannot have more of its lease left than the lease. If it has, on SQLite, an
// earlier process has stored it by another wall clock.
var markTexts = map[bool]string{
	true: `WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
		expired AS MATERIALIZED (
			SELECT p.id FROM {processes} p, clock WHERE p.lost_at IS NULL AND p.expires_at <= now AND EXISTS (
				SELECT FROM {processes} me WHERE me.id = $1 AND me.lost_at IS NULL AND me.expires_at - me.lease / 3 * interval '1 microsecond' > now
					AND me.contact_since <= now - p.lease * interval '1 microsecond'
			) ORDER BY p.expires_at LIMIT 100 FOR UPDATE OF p SKIP LOCKED
		)
		UPDATE {processes} SET lost_at = (SELECT now FROM clock) WHERE id = ANY (ARRAY(SELECT id FROM expired))`,

	false: `UPDATE {processes} AS p SET lost_at = $2 WHERE lost_at IS NULL AND expires_at NOT BETWEEN $2 + 1 AND $2 + lease AND EXISTS (
			SELECT 1 FROM {processes} me WHERE me.id = $1 AND me.lost_at IS NULL AND me.expires_at - me.lease / 3 > $2 AND me.contact_since <= $2 - p.lease)`,
}

// markLost marks expired processes as lost.
func (s *Store) markLost(ctx context.Context, processID string) error {
	return s.write(ctx, "mark lost processes", func(t *tx) error {
		args := []any{processID}
		if !s.postgres {
			args = append(args, t.at(s.leaseTime()))
		}
		_, err := t.exec(t.ctx, markTexts[s.postgres], args...)
		return err
	})
}

// overdueRun is a run that a sweep has found.
type overdueRun struct {
	runID       int64
	assistantID string
	running     bool
	waiting     bool
	token       int64     // of the claim
	since       time.Time // when its process or its request expired, or since when it is queued
	maxAttempts int       // of its process
	due         time.Time // when it was due to be swept
}

const (
	// lostClaimsText lists claims of lost processes, oldest expiry first.
	lostClaimsText = `SELECT q.run_id, q.assistant_id, true, q.token, p.expires_at, p.max_attempts
		FROM {processes} p JOIN {queue} q ON q.process_id = p.id AND q.state = 'r'
		WHERE p.lost_at IS NOT NULL ORDER BY p.expires_at, q.run_id LIMIT $1`

	// orphansText lists claims whose process is not registered.
	orphansText = `SELECT run_id, assistant_id, true, token, coalesce(started_at, waits_since), 1 FROM {queue} q
		WHERE state = 'r' AND NOT EXISTS (SELECT 1 FROM {processes} p WHERE p.id = q.process_id) ORDER BY run_id LIMIT $1`

	lateText = `SELECT run_id, assistant_id, false, token, waits_since, 0 FROM (
			SELECT * FROM {queue} WHERE state = 'q' AND waits_since < $2
			UNION ALL SELECT * FROM {queue} WHERE state = 'b' AND waits_since < $2
		) q ORDER BY waits_since, run_id LIMIT $1`

	expiredInputsText = `SELECT run_id, assistant_id, false, token, wake_at, 0 FROM {queue} q
		WHERE wake_at <= $2 ORDER BY wake_at, run_id LIMIT $1`

	unexpiredText = `SELECT count(*) FROM {processes} WHERE id = $1 AND lost_at IS NULL AND expires_at > $2`
)

// overdue finds the runs to sweep, without locks, those first that were due first: more
// than the limit, as others may have some of them. Those of assistants for which
// Options.Enqueue hung come last.
func (s *Store) overdue(ctx context.Context, sweep webtrigger.Sweep) (found []overdueRun, _ error) {
	err := s.write(ctx, "sweep runs", func(t *tx) error {
		found = nil
		list := func(wait time.Duration, text string, args ...any) error {
			rows, err := t.rows(t.ctx, text, append([]any{sweep.Limit + sweepSpare}, args...)...)
			return each(rows, err, func(row scanner) error {
				var o overdueRun
				err := row.Scan(&o.runID, &o.assistantID, &o.running, &o.token, stamp{&o.since}, &o.maxAttempts)
				o.waiting = text == expiredInputsText
				o.due = o.since.Add(wait)
				found = append(found, o)
				return err
			})
		}
		if err := list(0, lostClaimsText); err != nil {
			return err
		}
		if sweep.Audit {
			if err := list(0, orphansText); err != nil {
				return err
			}
		}
		now, err := t.now()
		if err != nil {
			return err
		}
		if err := list(0, expiredInputsText, t.at(now)); err != nil {
			return err
		}
		if sweep.MaxQueueTime > 0 {
			if may, now, err := t.unexpired(sweep.ProcessID); err != nil {
				return err
			} else if may {
				if err := list(sweep.MaxQueueTime, lateText, t.at(now.Add(-sweep.MaxQueueTime))); err != nil {
					return err
				}
			}
		}
		hung := make(map[string]bool)
		for _, o := range found {
			hung[o.assistantID] = s.hooks.hangs(o.assistantID)
		}
		slices.SortStableFunc(found, func(a, b overdueRun) int {
			if hung[a.assistantID] != hung[b.assistantID] {
				if hung[a.assistantID] {
					return 1
				}
				return -1
			}
			return a.due.Compare(b.due)
		})
		return nil
	})
	return found, err
}

// unexpired reports whether a process is registered and has not expired. It also
// returns the time.
func (t *tx) unexpired(processID string) (_ bool, now time.Time, _ error) {
	leased, err := t.leaseTime()
	if err != nil {
		return false, now, err
	}
	var found int
	if err := t.row(t.ctx, unexpiredText, processID, t.at(leased)).Scan(&found); err != nil {
		return false, now, err
	}
	now, err = t.now()
	return found > 0, now, err
}

// sweepOne ends or requeues a run, unless another transaction has locked or changed it.
// If enqueue is false, it does not requeue.
func (s *Store) sweepOne(ctx context.Context, o overdueRun, enqueue bool) (swept *webtrigger.Run, _ error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
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
		case q.waiting != o.waiting || q.waiting && !q.wakeAt.Equal(o.since):
			return nil
		case q.waiting:
			var changed bool
			if changed, err = t.expireInput(q, enqueue, now); err == nil && !changed {
				return nil
			}
		case !q.running && !q.waitsSince.Equal(o.since):
			return nil
		case !q.running:
			err = t.end(q, 0, webtrigger.QueueTimeout(), nil, now)
		case q.stop == nil && q.attempts < o.maxAttempts:
			if !enqueue {
				return nil
			}
			err = t.requeue(q, webtrigger.RequeueHeartbeat, true, now)
		default:
			err = t.end(q, 0, webtrigger.HeartbeatTimeout(), nil, now)
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

// deleteLost deletes processes that have been lost for long and have no claims.
func (s *Store) deleteLost(ctx context.Context) error {
	return s.write(ctx, "delete lost processes", func(t *tx) error {
		leased, err := t.leaseTime()
		if err != nil {
			return err
		}
		_, err = t.exec(t.ctx, `WITH old AS MATERIALIZED (
				SELECT id FROM {processes} p WHERE lost_at NOT BETWEEN $1 AND $2
					AND NOT EXISTS (SELECT 1 FROM {queue} WHERE process_id = p.id AND state = 'r') LIMIT 100 {skip locked})
			DELETE FROM {processes} WHERE id IN (SELECT id FROM old)`, t.at(leased.Add(-keepLost)), t.at(leased))
		return err
	})
}
