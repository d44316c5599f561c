package bunstore

import (
	"context"
	"database/sql"
	"sync"

	"github.com/webtrigger-go/webtrigger"
)

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

// restore creates a queue row from a run's stored events. A run that may have
// been claimed is running without a process, and under no lease. One of a single
// conversation always may have been: no event that would show it is stored.
func (t *tx) restore(runID int64) error {
	now, err := t.now()
	if err != nil {
		return err
	}
	restored, err := t.exec(t.ctx, `INSERT INTO {queue} (run_id, conversation_id, key_id, token, batch, last_sequence, started_sequence, waits_since,
			started_at, attempts, state, native, bounded, shared, assistant_id)
		SELECT r.id, r.conversation_id, r.key_id, 0, 0,
			CASE WHEN c.id IS NULL AND e.last < e.requeued + 1 THEN e.requeued + 1 ELSE e.last END, CASE WHEN c.id IS NULL THEN e.requeued + 1 ELSE 0 END, $3,
			coalesce(e.at, CASE WHEN c.id IS NULL THEN CAST($3 AS {time}) END),
			e.started + CASE WHEN c.id IS NULL THEN 1 ELSE 0 END, CASE WHEN c.id IS NULL OR e.started > 0 THEN 'r' ELSE 'q' END,
			$2, false, c.id IS NOT NULL, r.assistant_id
		FROM {runs} r LEFT JOIN {conversations} c ON c.id = r.conversation_id, (
			SELECT count(CASE WHEN type = $4 THEN 1 END) AS started, coalesce(max(sequence), 0) AS last,
				coalesce(max(CASE WHEN type IN ($5, $6, $7) THEN sequence END), 1) AS requeued, max(CASE WHEN type = $4 THEN created_at END) AS at
			FROM {events} WHERE conversation_id = (SELECT conversation_id FROM {runs} WHERE id = $1) AND run_id = $1) e
		WHERE r.id = $1 AND NOT EXISTS (SELECT 1 FROM {ends} WHERE run_id = $1)
		ON CONFLICT (run_id) DO NOTHING`,
		runID, t.store.opts.Enqueue == nil, t.at(now), string(webtrigger.EventRunStarted), string(webtrigger.EventRunRequeued),
		string(webtrigger.EventInputRequested), string(webtrigger.EventInputReceived))
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
