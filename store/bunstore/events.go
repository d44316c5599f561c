package bunstore

import (
	"context"
	"database/sql"
	"math"

	"github.com/webtrigger-go/webtrigger"
)

// Events implements [webtrigger.EventStore], at one instant by one statement.
func (s *Store) Events(ctx context.Context, query webtrigger.EventQuery) (webtrigger.EventPage, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.EventPage{}, err
	}
	defer cancel()
	limit, bytes := query.Limit+1, int64(query.MaxBytes) // one more shows whether there is more
	if bytes == 0 {
		bytes = 1 << 62
	}
	var rows answer
	if query.RunID == 0 {
		rows, err = s.rows(ctx, conversationEvents, query.ConversationID, query.AfterID, limit, bytes)
	} else {
		after := min(query.AfterSequence, math.MaxInt64/2) // the statement adds to it
		rows, err = s.rows(ctx, runEvents, query.ConversationID, query.AfterID, limit, bytes, query.RunID, after)
	}
	page := pageReader{query: query}
	err = each(rows, err, page.read)
	if err == nil && !page.found {
		err = webtrigger.ErrNotFound
	}
	if err != nil {
		return webtrigger.EventPage{}, s.wrap("read events", err)
	}
	page.addDerived(math.MaxInt64)
	return page.page, nil
}

// The statements of Events: the state of the conversation with each stored event,
// or alone where there is none. The innermost query stops at the limit; the one
// around it after the event that passes the bytes, and not before the second.
//
// single is whether reads derive events: of the run that the conversation is, or of
// the one that is asked for. Its texts come with the first row only.
const (
	conversationEvents = `WITH s AS MATERIALIZED (
			SELECT c.id IS NULL AS single, coalesce(c.last_event_id, q.last_sequence, e.last_sequence, 1) AS last_id,
				coalesce(c.purged_event_id, m.event_id, 0) AS purged, coalesce(c.open_runs = 0, e.run_id IS NOT NULL) AS ended, 0 AS purged_of_run,
				` + lifeColumns + `
			FROM (SELECT 1 AS one) o LEFT JOIN {conversations} c ON c.id = $1
				LEFT JOIN {runs} r ON r.id = $1 AND r.conversation_id = $1 AND c.id IS NULL ` + lifeJoins + `
			WHERE c.id IS NOT NULL OR r.id IS NOT NULL
		)` + eventPageOf + `(SELECT * FROM {events} WHERE conversation_id = $1 AND id > $2 ORDER BY id LIMIT $3)` + eventPageEnd

	runEvents = `WITH s AS MATERIALIZED (
			SELECT c.id IS NULL AS single, coalesce(c.last_event_id, q.last_sequence, e.last_sequence, 1) AS last_id,
				0 AS purged, e.run_id IS NOT NULL AS ended, coalesce(m.event_id, 0) AS purged_of_run,
				` + lifeColumns + `
			FROM {runs} r LEFT JOIN {conversations} c ON c.id = $1 ` + lifeJoins + `
			WHERE r.id = $5 AND r.conversation_id = $1
		)` + eventPageOf + `(SELECT * FROM {events} WHERE conversation_id = $1 AND id > $2 AND run_id = $5 AND sequence > $6
			AND id >= (SELECT first_event_id + $6 FROM {runs} WHERE id = $5) ORDER BY id LIMIT $3)` + eventPageEnd

	eventPageOf = `
		SELECT s.single, s.last_id, s.purged, s.ended, s.purged_of_run, s.run_id, s.run_key, s.created_at, s.last_sequence, s.started_sequence,
			s.started_at, s.attempts, s.status, CASE WHEN coalesce(e.place, 1) = 1 THEN s.status_detail END,
			CASE WHEN coalesce(e.place, 1) = 1 THEN s.error_message END, s.completed_at, s.purged_sequence,
			e.id, e.sequence, e.run_id, k.run_key, e.type, e.payload, e.created_at
		FROM s LEFT JOIN (
			SELECT *, sum({size}) OVER (ORDER BY id) - {size} AS before, row_number() OVER (ORDER BY id) AS place FROM `

	eventPageEnd = ` page
		) e ON e.before <= $4 OR e.place = 2
		LEFT JOIN {runs} k ON k.id = e.run_id
		ORDER BY e.id`
)

// pageReader makes a page of the rows of Events and of what follows from them.
type pageReader struct {
	query   webtrigger.EventQuery
	page    webtrigger.EventPage
	derived []webtrigger.Event // not in the page yet
	found   bool
	size    int
	full    bool
}

func (p *pageReader) read(row scanner) error {
	var id, sequence, runID sql.NullInt64
	var key, kind, payload sql.NullString
	var purged, purgedOfRun int64
	var single bool
	var l lifeRow
	e := webtrigger.Event{ConversationID: p.query.ConversationID}
	dest := append([]any{&single, &p.page.LastID, &purged, &p.page.Ended, &purgedOfRun}, l.dest()...)
	err := row.Scan(append(dest, &id, &sequence, &runID, &key, &kind, &payload, stamp{&e.CreatedAt})...)
	if err != nil {
		return err
	}
	if !p.found {
		p.found = true
		p.begin(single, purged, purgedOfRun, l.read())
	}
	if !id.Valid {
		return nil
	}
	p.addDerived(id.Int64)
	e.ID, e.Sequence, e.RunID, e.RunKey = id.Int64, sequence.Int64, runID.Int64, key.String
	e.Type, e.Payload = webtrigger.EventType(kind.String), []byte(payload.String)
	p.add(e)
	return nil
}

// begin reads the fields of the whole page from the first row.
func (p *pageReader) begin(single bool, purged, purgedOfRun int64, l life) {
	if l.purged > p.query.AfterSequence {
		purged = max(purged, purgedOfRun)
	}
	if purged > p.query.AfterID {
		p.page.PurgedTo = purged
	}
	if !single {
		return
	}
	for _, e := range l.derived() {
		if e.ID > p.query.AfterID && e.Sequence > p.query.AfterSequence {
			p.derived = append(p.derived, e)
		}
	}
}

// addDerived adds the derived events that come before a stored one.
func (p *pageReader) addDerived(before int64) {
	for len(p.derived) > 0 && p.derived[0].ID < before {
		p.add(p.derived[0])
		p.derived = p.derived[1:]
	}
}

// add adds the next event unless the page is full. Where the statement has cut the
// stored events, the last one that it returned fills the page at the latest: so no
// derived event overtakes a stored one.
func (p *pageReader) add(e webtrigger.Event) {
	if p.full {
		return
	}
	p.size += len(e.Payload)
	n := len(p.page.Events)
	if p.full = n == p.query.Limit || n > 0 && p.query.MaxBytes > 0 && p.size > p.query.MaxBytes; p.full {
		p.page.More = true
		return
	}
	p.page.Events = append(p.page.Events, e)
}
