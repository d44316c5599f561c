package bunstore

import (
	"context"

	"github.com/webtrigger-go/webtrigger"
)

// pgAppendText appends the batches of events of single runs whose leases are held.
// Those that another transaction has locked and those whose lease is not held are missing in
// the answer. A batch that is stored already is skipped.
var pgAppendText = `
	WITH input AS MATERIALIZED (
		SELECT * FROM json_to_recordset($1::json) AS i(ord int, run_id bigint, token bigint, batch bigint, events int)
	),` + pgHeld(``) + `,
	counted AS (
		UPDATE {queue} q SET batch = h.batch, last_sequence = q.last_sequence + h.events FROM held h
		WHERE h.batch > h.stored AND q.run_id = ANY (ARRAY[h.run_id]) AND h.run_id + 0 = h.run_id
	),
	logged AS (
		INSERT INTO {events} (conversation_id, id, run_id, sequence, type, payload, created_at)
		SELECT h.conversation_id, h.last_sequence + x.k, h.run_id, h.last_sequence + x.k, x.t, x.p, h.now
		FROM held h JOIN ` + pgEntries("$2") + ` ON x.o = h.ord WHERE h.batch > h.stored
	)
	SELECT ord, conversation_id, batch > stored, last_sequence, now, last_sequence FROM held`

// pgAppendSharedText is pgAppendText for the runs of shared conversations. It locks
// the conversations first, and numbers the events of each by its counter.
var pgAppendSharedText = `
	WITH input AS MATERIALIZED (
		SELECT i.*, q.conversation_id FROM json_to_recordset($1::json) AS i(ord int, run_id bigint, token bigint, batch bigint, events int)
		CROSS JOIN LATERAL (SELECT conversation_id FROM {queue} WHERE run_id = i.run_id AND shared LIMIT 1) q
	),
	lane AS MATERIALIZED (
		SELECT g.conversation_id FROM (SELECT DISTINCT conversation_id FROM input ORDER BY conversation_id) g
		CROSS JOIN LATERAL (SELECT FROM {conversations} WHERE id = g.conversation_id LIMIT 1 FOR UPDATE SKIP LOCKED) c
	),
	held AS MATERIALIZED (
		SELECT i.*, q.batch AS stored, q.last_sequence, clock_timestamp() AS now
		FROM (SELECT * FROM input WHERE conversation_id IN (SELECT conversation_id FROM lane) ORDER BY run_id) i CROSS JOIN LATERAL (
			SELECT * FROM {queue} WHERE run_id = i.run_id AND token = i.token AND state::text = 'r'
			LIMIT 1 FOR UPDATE SKIP LOCKED
		) q
	),
	fresh AS MATERIALIZED (
		SELECT *, sum(events) OVER (PARTITION BY conversation_id ORDER BY run_id) - events AS before FROM held WHERE batch > stored
	),
	counted AS (
		UPDATE {queue} q SET batch = f.batch, last_sequence = q.last_sequence + f.events FROM fresh f
		WHERE q.run_id = ANY (ARRAY[f.run_id]) AND f.run_id + 0 = f.run_id
	),
	grown AS (
		UPDATE {conversations} c SET last_event_id = c.last_event_id + g.events
		FROM (SELECT conversation_id, sum(events) AS events FROM fresh GROUP BY conversation_id) g
		WHERE c.id = ANY (ARRAY[g.conversation_id]) AND g.conversation_id + 0 = g.conversation_id
		RETURNING c.id, c.last_event_id - g.events AS before
	),
	logged AS (
		INSERT INTO {events} (conversation_id, id, run_id, sequence, type, payload, created_at)
		SELECT f.conversation_id, g.before + f.before + x.k, f.run_id, f.last_sequence + x.k, x.t, x.p, f.now
		FROM fresh f JOIN grown g ON g.id = f.conversation_id JOIN ` + pgEntries("$2") + ` ON x.o = f.ord
	)
	SELECT f.ord, f.conversation_id, true, f.last_sequence, f.now, g.before + f.before FROM fresh f JOIN grown g ON g.id = f.conversation_id
	UNION ALL
	SELECT ord, conversation_id, false, 0, now, 0 FROM held WHERE batch <= stored`

// pgBatch is a batch of events in the input of a statement.
type pgBatch struct {
	pgLease
	Batch  int64 `json:"batch"`
	Events int   `json:"events"`
}

// pgAppend appends batches of events, each of another run.
func (s *Store) pgAppend(ctx context.Context, calls []*call[appending, struct{}]) error {
	return s.pgAppendBy(ctx, pgAppendText, pgAppendStepsText, calls)
}

// pgAppendShared is pgAppend for runs that it has left.
func (s *Store) pgAppendShared(ctx context.Context, calls []*call[appending, struct{}]) error {
	return s.pgAppendBy(ctx, pgAppendSharedText, pgAppendSharedStepsText, calls)
}

// pgAppendBy appends batches by one of two texts.
func (s *Store) pgAppendBy(ctx context.Context, text, withSteps string, calls []*call[appending, struct{}]) error {
	batches := make([]pgBatch, len(calls))
	entries := make([]entry, 0, len(calls))
	var steps []stepEntry
	for i, c := range calls {
		c.alone = true // unless the answer has it
		batches[i] = pgBatch{pgLease{i, c.arg.lease.RunID, c.arg.lease.Token}, c.arg.batch.Number, len(c.arg.batch.Events)}
		entries = appendEvents(entries, i, c.arg.batch.Events)
		steps = appendSteps(steps, i, c.arg.batch.Steps)
	}
	input, err := encode(batches)
	if err != nil {
		return err
	}
	events, err := encode(entries)
	if err != nil {
		return err
	}
	args := []any{input, events}
	if len(steps) > 0 {
		records, err := encode(steps)
		if err != nil {
			return err
		}
		text, args = withSteps, append(args, records)
	}
	var hint webtrigger.Hint
	rows, err := s.rows(ctx, text, args...)
	err = each(rows, err, func(row scanner) error {
		var ord int
		var fresh bool
		var e webtrigger.Event // the one before the call's first
		if err := row.Scan(&ord, &e.ConversationID, &fresh, &e.Sequence, stamp{&e.CreatedAt}, &e.ID); err != nil {
			return err
		}
		c := calls[ord]
		if c.alone = false; !fresh {
			return nil
		}
		e.RunID = c.arg.lease.RunID
		for _, n := range c.arg.batch.Events {
			e.ID, e.Sequence, e.Type, e.Payload = e.ID+1, e.Sequence+1, n.Type, n.Payload
			hint.Events = append(hint.Events, e)
		}
		return nil
	})
	if err != nil {
		return s.wrap("append events", err)
	}
	s.share(hint)
	return nil
}

// appendEvents adds a call's events to the entries of a statement.
func appendEvents(entries []entry, call int, events []webtrigger.NewEvent) []entry {
	for k, e := range events {
		entries = append(entries, entry{Call: call, Number: k + 1, Kind: string(e.Type), Content: string(e.Payload)})
	}
	return entries
}
