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

// replay returns the run of the live record.
func (t *tx) replay(assistantID string, use webtrigger.Idempotency, now time.Time) (webtrigger.Run, error) {
	var hash string
	var runID int64
	err := t.row(t.ctx, `SELECT {hex body_hash}, run_id FROM {idempotency_keys}
		WHERE assistant_id = $1 AND key = $2 AND expires_at > $3`, assistantID, use.Key, t.at(now)).Scan(&hash, &runID)
	switch {
	case err == sql.ErrNoRows:
		return webtrigger.Run{}, webtrigger.ErrNotFound
	case err != nil:
		return webtrigger.Run{}, err
	case hash != hex.EncodeToString(use.BodyHash[:]):
		return webtrigger.Run{}, webtrigger.ErrIdempotencyKeyReused
	}
	return t.run(runID)
}

// remember makes a record, in the place of an expired one; its run is named
// later in the transaction. It reports whether there was no live one: of
// simultaneous calls the first to commit wins, the others wait for it here.
func (t *tx) remember(assistantID string, use webtrigger.Idempotency, now time.Time) (first bool, _ error) {
	changed, err := t.exec(t.ctx, `INSERT INTO {idempotency_keys} AS stored (assistant_id, key, body_hash, run_id, expires_at)
		VALUES ($1, $2, $3, 0, $4)
		ON CONFLICT (assistant_id, key) DO UPDATE SET body_hash = excluded.body_hash, run_id = 0, expires_at = excluded.expires_at
		WHERE stored.expires_at <= $5`,
		assistantID, use.Key, use.BodyHash[:], t.at(now.Add(use.TTL)), t.at(now))
	return changed == 1, err
}

// forgetExpired deletes some of the records whose time is over.
func (t *tx) forgetExpired(limit int, now time.Time) error {
	_, err := t.exec(t.ctx, `WITH expired AS (
			SELECT assistant_id, key FROM {idempotency_keys} WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 {skip locked})
		DELETE FROM {idempotency_keys} WHERE (assistant_id, key) IN (SELECT assistant_id, key FROM expired) AND expires_at <= $1`,
		t.at(now), limit)
	return err
}
