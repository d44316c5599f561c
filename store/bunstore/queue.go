package bunstore

import (
	"context"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// queueStateText reads the queue table alone, which ended runs have left. One
// statement sees one instant.
const queueStateText = `SELECT
	(SELECT count(*) FROM {queue} WHERE state NOT IN ('r', 'w')),
	(SELECT count(*) FROM {queue} WHERE state = 'r'),
	(SELECT count(*) FROM {queue} WHERE wake_at IS NOT NULL),
	(SELECT min(waits_since) FROM {queue} WHERE state = 'q'),
	{clock}`

// QueueState implements [webtrigger.WorkStore].
func (s *Store) QueueState(ctx context.Context) (state webtrigger.QueueState, _ error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return state, err
	}
	defer cancel()
	var oldest, now time.Time
	err = s.row(ctx, queueStateText).Scan(&state.Queued, &state.Running, &state.Waiting, stamp{&oldest}, stamp{&now})
	if err != nil {
		return webtrigger.QueueState{}, s.wrap("read queue state", err)
	}
	if now.IsZero() { // SQLite has no clock of its own
		now = s.now()
	}
	if !oldest.IsZero() {
		state.OldestAge = max(now.Sub(oldest), 0)
	}
	return state, nil
}
