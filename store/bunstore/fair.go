package bunstore

import (
	"database/sql"

	"github.com/webtrigger-go/webtrigger"
)

// Claims in turns in a transaction: of one run, and all on SQLite.

// runningText counts the running runs by assistant and key.
const runningText = `SELECT assistant_id, key_id, count(*) FROM {queue} WHERE state = 'r' GROUP BY assistant_id, key_id`

// running is the number of running runs.
type running struct {
	ofAssistant map[string]int
	ofKey       map[int64]int
}

func (t *tx) countRunning() (running, error) {
	n := running{make(map[string]int), make(map[int64]int)}
	rows, err := t.rows(t.ctx, runningText)
	return n, each(rows, err, func(row scanner) error {
		var assistantID string
		var keyID int64
		var runs int
		err := row.Scan(&assistantID, &keyID, &runs)
		n.ofAssistant[assistantID] += runs
		n.ofKey[keyID] += runs
		return err
	})
}

// within reports whether one more run of an assistant and a key is within the limits
// of a claim.
func (n running) within(claim webtrigger.Claim, assistantID string, keyID int64) bool {
	return (claim.MaxPerAssistant == 0 || n.ofAssistant[assistantID] < claim.MaxPerAssistant) && n.keyWithin(claim, keyID)
}

func (n running) keyWithin(claim webtrigger.Claim, keyID int64) bool {
	return claim.MaxPerKey == 0 || keyID == 0 || n.ofKey[keyID] < claim.MaxPerKey
}

func (n running) add(assistantID string, keyID int64) {
	n.ofAssistant[assistantID]++
	n.ofKey[keyID]++
}

// waitingOne locks the run that a claim names. It is nil if the claim must not have it.
// The row is locked before the limits, so that the holder of that lock never waits for a row.
func (t *tx) waitingOne(claim webtrigger.Claim) (*queueRow, error) {
	q, err := t.lockOpen(claim.RunID)
	if err == sql.ErrNoRows || err == nil && (q.running || q.behind || q.waiting) {
		return nil, nil
	}
	if err != nil || !limited(claim) {
		return q, err
	}
	if t.store.postgres {
		if err := t.store.lockLimits(t.ctx, t.session); err != nil {
			return nil, err
		}
	}
	n, err := t.countRunning()
	if err != nil {
		return nil, err
	}
	var assistantID string
	var keyID int64
	err = t.row(t.ctx, `SELECT assistant_id, key_id FROM {queue} WHERE run_id = $1`, claim.RunID).Scan(&assistantID, &keyID)
	if err != nil || !n.within(claim, assistantID, keyID) {
		return nil, err
	}
	return q, nil
}

// waitingInTurn selects queued runs on SQLite, by their turns. It visits all assistants
// that have some.
func (t *tx) waitingInTurn(claim webtrigger.Claim) (list []*queueRow, _ error) {
	n, err := t.countRunning()
	if err != nil {
		return nil, err
	}
	rows, err := t.rows(t.ctx, backlogsText)
	backlogs, err := collect(rows, err, func(row scanner) (*backlog, error) {
		b := &backlog{}
		return b, row.Scan(&b.assistantID, &b.oldest)
	})
	if err != nil {
		return nil, err
	}
	for len(list) < claim.Limit {
		var next *backlog
		for _, b := range backlogs {
			if !b.done && (next == nil || n.before(b, next)) {
				next = b
			}
		}
		if next == nil {
			break
		}
		if !next.read {
			if err := t.readBacklog(next, claim); err != nil {
				return nil, err
			}
		}
		run, ok := next.take(n, claim)
		if !ok {
			continue
		}
		n.add(next.assistantID, run.keyID)
		q, err := t.lock(run.id, forUpdate)
		if err != nil {
			return nil, err
		}
		list = append(list, q)
	}
	return list, nil
}

// backlogsText lists the assistants that have queued runs, with the oldest run of each.
// It visits one index entry for each.
const backlogsText = `WITH RECURSIVE walk (assistant_id) AS (
		SELECT min(assistant_id) FROM {queue} WHERE state = 'q' AND native
		UNION ALL
		SELECT (SELECT min(assistant_id) FROM {queue} WHERE state = 'q' AND native AND assistant_id > walk.assistant_id)
		FROM walk WHERE assistant_id IS NOT NULL
	)
	SELECT assistant_id, (SELECT min(run_id) FROM {queue} WHERE state = 'q' AND native AND assistant_id = walk.assistant_id)
	FROM walk WHERE assistant_id IS NOT NULL`

// backlog is the queued runs of an assistant.
type backlog struct {
	assistantID string
	oldest      int64 // of runs, once it is read
	read, done  bool
	runs        []waitingRun
}

type waitingRun struct{ id, keyID int64 }

// before reports whether a's turn comes before b's.
func (n running) before(a, b *backlog) bool {
	x, y := n.ofAssistant[a.assistantID], n.ofAssistant[b.assistantID]
	return x < y || x == y && a.oldest < b.oldest
}

// readBacklog reads as many runs of an assistant as a claim may take.
func (t *tx) readBacklog(b *backlog, claim webtrigger.Claim) error {
	ofKey := claim.Limit
	if claim.MaxPerKey > 0 {
		ofKey = min(ofKey, claim.MaxPerKey)
	}
	rows, err := t.rows(t.ctx, `SELECT run_id, key_id FROM (
			SELECT run_id, key_id, row_number() OVER (PARTITION BY key_id ORDER BY run_id) AS place
			FROM {queue} WHERE state = 'q' AND native AND assistant_id = $1
		) w WHERE place <= CASE WHEN key_id = 0 THEN $2 ELSE $3 END ORDER BY run_id`, b.assistantID, claim.Limit, ofKey)
	b.runs, err = collect(rows, err, func(row scanner) (run waitingRun, _ error) { return run, row.Scan(&run.id, &run.keyID) })
	b.read = true
	return err
}

// take removes the assistant's next run. ok is false if the assistant has no run now
// that the claim may take, or another one may be before it.
func (b *backlog) take(n running, claim webtrigger.Claim) (next waitingRun, ok bool) {
	for len(b.runs) > 0 && !n.keyWithin(claim, b.runs[0].keyID) {
		b.runs = b.runs[1:]
	}
	if len(b.runs) == 0 || !n.within(claim, b.assistantID, b.runs[0].keyID) {
		b.done = true
		return next, false
	}
	if next = b.runs[0]; next.id != b.oldest {
		b.oldest = next.id // the older ones are of keys at their limit
		return next, false
	}
	if b.runs = b.runs[1:]; len(b.runs) > 0 {
		b.oldest = b.runs[0].id
	}
	return next, true
}
