package bunstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// pgClaimText takes waiting runs; what follows waiting AS is pgClaimAny or
// pgClaimOne. Rows that another claim has locked are skipped.
const (
	pgClaimText = `,
	q AS (
		UPDATE {queue} q SET leased = true, token = q.token + 1, batch = 0, attempts = q.attempts + 1,
			last_sequence = q.last_sequence + 1, started_at = clock_timestamp(),
			expires_at = clock_timestamp() + $2::bigint * interval '1 microsecond', worker = $3
		FROM waiting WHERE q.run_id = ANY (ARRAY[waiting.run_id])
		RETURNING q.run_id, q.conversation_id, q.leased, q.token, q.attempts, q.last_sequence, q.started_at
	),
	entries AS (
		SELECT conversation_id, row_number() OVER (PARTITION BY conversation_id ORDER BY run_id) AS place, run_id,
			last_sequence AS sequence, $4 AS type, $5 || attempts || $6 AS payload, started_at AS now FROM q
	),
	growth AS (
		SELECT conversation_id, count(*) AS events, 0 AS messages, 0 AS ended FROM q GROUP BY conversation_id
	),` + pgGrow + `,` + pgLog + `
	SELECT ` + runColumns + `, q.token, ` + inputColumns + `
	FROM q CROSS JOIN LATERAL (SELECT * FROM {runs} WHERE id = q.run_id LIMIT 1) r
		CROSS JOIN LATERAL (SELECT * FROM {conversations} WHERE id = q.conversation_id LIMIT 1) c
		CROSS JOIN LATERAL (SELECT * FROM {messages} WHERE conversation_id = q.conversation_id AND id = r.message_id LIMIT 1) im
		LEFT JOIN {messages} m ON false
	ORDER BY r.id`

	pgClaimAny = `WITH waiting AS MATERIALIZED (
		SELECT run_id FROM {queue} WHERE NOT leased AND native ORDER BY run_id LIMIT $1 FOR UPDATE SKIP LOCKED
	)`

	pgClaimOne = `WITH waiting AS MATERIALIZED (
		SELECT run_id FROM {queue} WHERE NOT leased AND run_id = $1 FOR UPDATE
	)`
)

// pgClaim takes waiting runs.
func (s *Store) pgClaim(ctx context.Context, claim webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	text, which := pgClaimAny+pgClaimText, int64(claim.Limit)
	if claim.RunID != 0 {
		text, which = pgClaimOne+pgClaimText, claim.RunID
	}
	var claimed []webtrigger.ClaimedRun
	var hint webtrigger.Hint
	err = again(ctx, func() error {
		rows, err := s.rows(ctx, text, which, micros(claim.Lease), claim.Worker,
			string(webtrigger.EventRunStarted), s.started.before, s.started.after)
		claimed, err = collect(rows, err, scanClaimed)
		return err
	})
	if err != nil {
		return nil, s.wrap("claim runs", err)
	}
	for _, c := range claimed {
		hint.Conversations = append(hint.Conversations, c.Run.ConversationID)
	}
	s.share(hint)
	return claimed, nil
}

func scanClaimed(row scanner) (c webtrigger.ClaimedRun, err error) {
	var x inputRow
	c.Run, err = scanRun(row, append([]any{&c.Lease.Token}, x.dest()...)...)
	c.Input, c.Lease.RunID = x.read(), c.Run.ID
	return c, err
}

// pgLease is a lease in the input of a statement.
type pgLease struct {
	Ord   int   `json:"ord"`
	RunID int64 `json:"run_id"`
	Token int64 `json:"token"`
}

// pgRenewText lets leases that hold last; the rest are missing in the answer.
var pgRenewText = `
	WITH input AS MATERIALIZED (
		SELECT * FROM json_to_recordset($1::json) AS i(ord int, run_id bigint, token bigint)
	),` + pgHeld(``) + `
	UPDATE {queue} q SET expires_at = clock_timestamp() + $2::bigint * interval '1 microsecond'
	FROM held WHERE q.run_id = ANY (ARRAY[held.run_id])
	RETURNING held.ord, q.stop_status, q.stop_detail, q.stop_error`

// pgRenew lets leases last.
func (s *Store) pgRenew(ctx context.Context, leases []webtrigger.Lease, d time.Duration) ([]webtrigger.Renewal, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	list := make([]pgLease, len(leases))
	for i, lease := range leases {
		list[i] = pgLease{i, lease.RunID, lease.Token}
	}
	input, err := encode(list)
	if err != nil {
		return nil, err
	}
	renewals := make([]webtrigger.Renewal, len(leases))
	err = again(ctx, func() error {
		rows, err := s.rows(ctx, pgRenewText, input, micros(d))
		return each(rows, err, func(row scanner) error {
			var ord int
			var status, detail, failure sql.NullString
			if err := row.Scan(&ord, &status, &detail, &failure); err != nil {
				return err
			}
			renewals[ord] = webtrigger.Renewal{Renewed: true}
			if status.Valid {
				renewals[ord].Stop = &webtrigger.Stop{
					Status: webtrigger.RunStatus(status.String), StatusDetail: detail.String, ErrorMessage: failure.String}
			}
			return nil
		})
	})
	if err != nil {
		return nil, s.wrap("renew leases", err)
	}
	// The same lease twice is one row in the statement.
	for i, lease := range leases {
		for j := range i {
			if leases[j] == lease {
				renewals[j].Renewed = renewals[j].Renewed || renewals[i].Renewed
				renewals[i] = renewals[j]
				break
			}
		}
	}
	return renewals, nil
}

// pgAppendText appends the batches of events whose leases hold; the rest are
// missing in the answer. A batch that stands already is left out.
var pgAppendText = `
	WITH input AS MATERIALIZED (
		SELECT * FROM json_to_recordset($1::json) AS i(ord int, run_id bigint, token bigint, batch bigint, events int)
	),` + pgHeld(``) + `,
	fresh AS (
		SELECT *, sum(events) OVER (PARTITION BY conversation_id ORDER BY run_id) - events AS before FROM held WHERE batch > stored
	),
	counted AS (
		UPDATE {queue} q SET batch = f.batch, last_sequence = q.last_sequence + f.events FROM fresh f
		WHERE q.run_id = ANY (ARRAY[f.run_id])
	),
	entries AS (
		SELECT f.conversation_id, f.before + x.k AS place, f.run_id, f.last_sequence + x.k AS sequence, x.t AS type, x.p AS payload, f.now
		FROM fresh f JOIN ` + pgEntries("$2") + ` ON x.o = f.ord
	),
	growth AS (
		SELECT conversation_id, sum(events) AS events, 0 AS messages, 0 AS ended FROM fresh GROUP BY conversation_id
	),` + pgGrow + `,` + pgLog + `
	SELECT f.ord, f.conversation_id, g.events_before + f.before, f.last_sequence, f.now
	FROM fresh f JOIN grown g ON g.id = f.conversation_id
	UNION ALL
	SELECT ord, conversation_id, -1, 0, now FROM held WHERE batch <= stored`

// pgBatch is a batch of events in the input of a statement.
type pgBatch struct {
	pgLease
	Batch  int64 `json:"batch"`
	Events int   `json:"events"`
}

// pgAppend appends batches of events, each of another run.
func (s *Store) pgAppend(ctx context.Context, calls []*call[appending, struct{}]) error {
	batches := make([]pgBatch, len(calls))
	entries := make([]entry, 0, len(calls))
	for i, c := range calls {
		c.err = webtrigger.ErrLeaseLost // until the answer says otherwise
		batches[i] = pgBatch{pgLease{i, c.arg.lease.RunID, c.arg.lease.Token}, c.arg.batch.Number, len(c.arg.batch.Events)}
		entries = appendEvents(entries, i, c.arg.batch.Events)
	}
	input, err := encode(batches)
	if err != nil {
		return err
	}
	events, err := encode(entries)
	if err != nil {
		return err
	}
	var hint webtrigger.Hint
	rows, err := s.rows(ctx, pgAppendText, input, events)
	err = each(rows, err, func(row scanner) error {
		var ord int
		var e webtrigger.Event // the one before the call's first
		if err := row.Scan(&ord, &e.ConversationID, &e.ID, &e.Sequence, stamp{&e.CreatedAt}); err != nil {
			return err
		}
		c := calls[ord]
		if c.err = nil; e.ID < 0 { // it stands already
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
		entries = append(entries, entry{call, k + 1, string(e.Type), string(e.Payload)})
	}
	return entries
}
