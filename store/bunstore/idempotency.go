package bunstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Replay implements [webtrigger.TriggerStore].
func (s *Store) Replay(ctx context.Context, assistantID string, use webtrigger.Idempotency) (webtrigger.Run, error) {
	if err := ended(ctx); err != nil {
		return webtrigger.Run{}, err
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	t := &tx{session: s.pool(), ctx: ctx, time: s.now()}
	now, err := t.now()
	if err != nil {
		return webtrigger.Run{}, s.wrap("replay", err)
	}
	run, err := t.replay(assistantID, use, now)
	return run, s.wrap("replay", err)
}

// replay returns the run of the live record, or ErrNotFound without a live record.
func (t *tx) replay(assistantID string, use webtrigger.Idempotency, now time.Time) (webtrigger.Run, error) {
	var hash string
	run, err := scanSummary(t.row(t.ctx, replayText, assistantID, use.Key, t.at(now)), &hash)
	switch {
	case err == sql.ErrNoRows:
		return webtrigger.Run{}, webtrigger.ErrNotFound
	case err != nil:
		return webtrigger.Run{}, err
	case hash != hex.EncodeToString(use.BodyHash[:]):
		return webtrigger.Run{}, webtrigger.ErrIdempotencyKeyReused
	}
	return run, nil
}

// replayText reads a live record and its run at one instant: an erasure deletes both.
const replayText = `SELECT ` + summaryColumns + `, (SELECT {hex body_hash} FROM {idempotency_keys} WHERE assistant_id = $1 AND key = $2)
	FROM ` + fromRuns + ` WHERE r.id = (SELECT run_id FROM {idempotency_keys} WHERE assistant_id = $1 AND key = $2 AND expires_at > $3)`

// remember stores the record of a run, instead of an expired one. It reports
// whether there was no live one. The caller has locked the request.
func (t *tx) remember(assistantID string, use webtrigger.Idempotency, runID int64, now time.Time) (first bool, _ error) {
	changed, err := t.exec(t.ctx, `INSERT INTO {idempotency_keys} AS stored (assistant_id, key, body_hash, run_id, expires_at)
		VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (assistant_id, key) DO UPDATE SET body_hash = excluded.body_hash, run_id = excluded.run_id, expires_at = excluded.expires_at
		WHERE stored.expires_at <= $6`,
		assistantID, use.Key, use.BodyHash[:], runID, t.at(now.Add(use.TTL)), t.at(now))
	return changed == 1, err
}

// lockRequest keeps other calls from storing a trigger with this idempotency key.
// SQLite has one writer.
func (t *tx) lockRequest(assistantID, key string) error {
	return t.lockName(t.store.requestLock(assistantID, key))
}

// lockRecord locks the expired record of an idempotency key, if there is one. A sweep or an
// erasure may be deleting it: remember would wait for that, with the locks that the trigger
// has taken meanwhile.
func (t *tx) lockRecord(assistantID, key string) error {
	if !t.store.postgres {
		return nil
	}
	const text = `SELECT 1 FROM {idempotency_keys} WHERE assistant_id = $1 AND key = $2`
	var found int
	err := t.row(t.ctx, text+t.how(), assistantID, key).Scan(&found)
	if err == sql.ErrNoRows && t.tries {
		if err = t.row(t.ctx, text, assistantID, key).Scan(&found); err == nil {
			err = errLocked
		}
	}
	if err == sql.ErrNoRows {
		return nil
	}
	return err
}

// requestLock is the number of the advisory lock of an idempotency key. Two keys
// with one number wait for each other, with no other effect.
func (s *Store) requestLock(assistantID, key string) int64 {
	return s.lockNumber("request/" + assistantID + "/" + key)
}

// deleteExpired deletes expired records in batches, each in a transaction of its own, up
// to 10,000 in one call. Records that another transaction has locked stay.
func (s *Store) deleteExpired(ctx context.Context) error {
	const batch, batches = 500, 20
	for range batches {
		var deleted int64
		err := s.write(ctx, "delete expired idempotency records", func(t *tx) error {
			now, err := t.now()
			if err != nil {
				return err
			}
			deleted, err = t.exec(t.ctx, `WITH expired AS (
					SELECT assistant_id, key FROM {idempotency_keys} WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 {skip locked})
				DELETE FROM {idempotency_keys} WHERE (assistant_id, key) IN (SELECT assistant_id, key FROM expired) AND expires_at <= $1`,
				t.at(now), batch)
			return err
		})
		if err != nil || deleted < batch {
			return err
		}
	}
	return nil
}
