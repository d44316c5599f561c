package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/internal/retention"
)

const (
	purgeStretch = 20_000          // runs that one call of Purge looks at
	eventChunk   = 5_000           // events that one transaction deletes
	purgeErrors  = 3               // runs in a row for which the store was unavailable: the rest is left to the next call
	purgeTimeout = 5 * time.Second // of one run
)

// Purge implements [webtrigger.RetentionStore]. It walks the ends of runs by their
// primary key: an index on the time would make each end of a run more expensive.
//
// A run that cannot be purged does not keep the others: each has its own transactions
// and deadline, and the error names it. Nor does the audit log, or what is counted.
func (s *Store) Purge(ctx context.Context, purge webtrigger.Purge) (done webtrigger.Purged, _ error) {
	done.Next = purge.After // of an error that concerns all runs
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return done, err
	}
	defer cancel()
	t := &tx{session: s.pool(), ctx: ctx, time: s.now()}
	now, err := t.now()
	if err != nil {
		return done, s.wrap("purge", err)
	}
	var errs []error
	if done.AuditEntries, err = t.purgeAudit(purge, now); err != nil {
		errs = append(errs, s.wrap("purge audit log", err))
	}
	if done.StatsHours, err = s.purgeStats(ctx, purge, now); err != nil {
		errs = append(errs, err)
	}
	if purge.After == 0 && purge.Stats > 0 { // a pass begins
		errs = append(errs, s.countPast(ctx, now.Add(-purge.Stats), now))
	}
	if retention.Shortest(purge.Keep) == 0 {
		done.Next = 0
		return done, errors.Join(errs...)
	}
	last, more, err := t.stretchAfter(purge.After)
	if err != nil {
		return done, errors.Join(append(errs, s.wrap("purge", err))...)
	}
	old, err := t.oldRuns(purge, last, now)
	if err != nil {
		return done, errors.Join(append(errs, s.wrap("purge", err))...)
	}
	unavailable := 0
	for _, r := range old {
		if done.Events >= purge.Limit || done.Triggers >= purge.Limit || ctx.Err() != nil || unavailable == purgeErrors {
			done.Next = r.id - 1
			return done, errors.Join(errs...)
		}
		limited, cancel := context.WithTimeout(ctx, purgeTimeout)
		err := s.purgeRun(limited, r, purge.Keep, now, &done)
		cancel()
		if unavailable++; !errors.Is(err, webtrigger.ErrUnavailable) {
			unavailable = 0
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("run %d: %w", r.id, err))
		}
	}
	done.Next = 0
	if more {
		done.Next = last
	}
	return done, errors.Join(errs...)
}

// stretchAfter is the id that the stretch of ended runs after an id ends with, and
// whether there may be more behind it.
func (t *tx) stretchAfter(after int64) (last int64, more bool, err error) {
	var n int
	var highest sql.NullInt64
	err = t.row(t.ctx, `SELECT count(*), max(id) FROM (SELECT run_id AS id FROM {ends} WHERE run_id > $1 ORDER BY run_id LIMIT $2) e`,
		after, purgeStretch).Scan(&n, &highest)
	return highest.Int64, n == purgeStretch, err
}

// endedRun is the part of an ended run that retention needs.
type endedRun struct {
	id, conversationID int64
	status             webtrigger.RunStatus
	completedAt        time.Time
	eventsPurged       bool
	keyed              bool // its conversation has a key
}

// older reports whether the run ended at least that long ago; 0: it did not.
func (r *endedRun) older(age time.Duration, now time.Time) bool {
	return age > 0 && !now.Before(r.completedAt.Add(age))
}

// endedRunColumns are what scanEndedRun reads, and fromEnded where they come from.
const (
	endedRunColumns = `r.id, r.conversation_id, e.status, e.completed_at, coalesce(m.complete, false), r.conversation_key IS NOT NULL`
	fromEnded       = `{ends} e JOIN {runs} r ON r.id = e.run_id LEFT JOIN {purge_marks} m ON m.run_id = e.run_id`
)

func scanEndedRun(row scanner) (r endedRun, err error) {
	err = row.Scan(&r.id, &r.conversationID, &r.status, stamp{&r.completedAt}, &r.eventsPurged, &r.keyed)
	return r, err
}

// oldRuns are the runs of a stretch that are older than the shortest age.
func (t *tx) oldRuns(purge webtrigger.Purge, last int64, now time.Time) ([]endedRun, error) {
	shortest := retention.Shortest(purge.Keep)
	rows, err := t.rows(t.ctx, `SELECT `+endedRunColumns+` FROM `+fromEnded+`
		WHERE e.run_id > $1 AND e.run_id <= $2 AND e.completed_at <= $3 ORDER BY e.run_id`, purge.After, last, t.at(now.Add(-shortest)))
	return collect(rows, err, scanEndedRun)
}

// purgeRun deletes the trigger of a run if all of it is due, else the run's events if
// they are too old.
func (s *Store) purgeRun(ctx context.Context, r endedRun, keep webtrigger.Retention, now time.Time, done *webtrigger.Purged) error {
	outlived := func(r endedRun) bool { return r.older(retention.Age(keep, r.status), now) }
	if outlived(r) {
		erase := func() (bool, error) { return s.erase(ctx, r.conversationID, outlived, skipLocked) }
		if r.keyed {
			erase = func() (bool, error) { return s.eraseRun(ctx, r) }
		}
		if erased, err := erase(); err != nil {
			return err
		} else if erased {
			done.Triggers++
			return nil
		}
	}
	if r.eventsPurged || !r.older(keep.Events, now) {
		return nil
	}
	purged, err := s.purgeEvents(ctx, r, skipLocked)
	if purged {
		done.Events++
	}
	return err
}

// purgeEvents deletes the events of an ended run, a chunk at a time. It reports
// whether the last of them went here. how is the lock of the conversation.
func (s *Store) purgeEvents(ctx context.Context, r endedRun, how string) (purged bool, _ error) {
	for more := true; more; {
		err := s.write(ctx, "purge events", func(t *tx) (err error) {
			purged, more, err = t.purgeChunk(r, how)
			return err
		})
		if err != nil {
			return false, err
		}
	}
	return purged, nil
}

func (t *tx) purgeChunk(r endedRun, how string) (purged, more bool, _ error) {
	_, shared, err := t.lockConversation(r.conversationID, how)
	if err == sql.ErrNoRows {
		return false, false, nil // the trigger is erased, or a later pass finds it
	} else if err != nil {
		return false, false, err
	}
	var n int
	var id, sequence sql.NullInt64
	err = t.row(t.ctx, `SELECT count(*), max(id), max(sequence) FROM (
			SELECT id, sequence FROM {events} WHERE conversation_id = $1 AND run_id = $2
				AND id >= (SELECT first_event_id FROM {runs} WHERE id = $2) ORDER BY id LIMIT $3) e`,
		r.conversationID, r.id, eventChunk).Scan(&n, &id, &sequence)
	if err != nil {
		return false, false, err
	}
	if n > 0 {
		_, err = t.exec(t.ctx, `DELETE FROM {events} WHERE conversation_id = $1 AND run_id = $2 AND id <= $3`, r.conversationID, r.id, id.Int64)
		if err != nil {
			return false, false, err
		}
	}
	complete := n < eventChunk
	if complete && !shared { // derived ones too: ids are sequences
		if err := t.row(t.ctx, `SELECT last_sequence FROM {ends} WHERE run_id = $1`, r.id).Scan(&id); err != nil {
			return false, false, err
		}
		sequence = id
	}
	if shared {
		_, err = t.exec(t.ctx, `UPDATE {conversations} SET purged_event_id = $2 WHERE id = $1 AND purged_event_id < $2`, r.conversationID, id.Int64)
		if err != nil {
			return false, false, err
		}
	}
	changed, err := t.exec(t.ctx, `INSERT INTO {purge_marks} AS m (run_id, event_id, sequence, complete) VALUES ($1, $2, $3, $4)
		ON CONFLICT (run_id) DO UPDATE SET complete = excluded.complete,
			event_id = CASE WHEN excluded.event_id > m.event_id THEN excluded.event_id ELSE m.event_id END,
			sequence = CASE WHEN excluded.sequence > m.sequence THEN excluded.sequence ELSE m.sequence END
		WHERE NOT m.complete`, r.id, id.Int64, sequence.Int64, complete)
	return complete && changed == 1, !complete, err
}
