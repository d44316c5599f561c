package bunstore

import (
	"context"
	"database/sql"

	"github.com/google/uuid"

	"github.com/webtrigger-go/webtrigger"
)

// reading begins a method that reads.
func (s *Store) reading(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ended(ctx); err != nil {
		return nil, nil, err
	}
	ctx, cancel := s.deadline(ctx)
	return ctx, cancel, nil
}

// Run implements [webtrigger.RunStore].
func (s *Store) RunByID(ctx context.Context, runID int64) (webtrigger.Run, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Run{}, err
	}
	defer cancel()
	run, err := scanRun(s.row(ctx, `SELECT `+runColumns+` FROM `+fromRuns+` WHERE r.id = $1`, runID))
	return run, s.wrap("read run", err)
}

// RunByKey implements [webtrigger.RunStore].
func (s *Store) RunByKey(ctx context.Context, runKey string) (webtrigger.Run, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Run{}, err
	}
	defer cancel()
	// Postgres takes other spellings of a UUID too; ours is one.
	if id, err := uuid.Parse(runKey); err != nil || id.String() != runKey {
		return webtrigger.Run{}, webtrigger.ErrNotFound
	}
	run, err := scanRun(s.row(ctx, `SELECT `+runColumns+` FROM `+fromRuns+` WHERE r.run_key = $1`, runKey))
	return run, s.wrap("read run", err)
}

// inputColumns are what scanInput reads, and fromInputs where they come from:
// subject and metadata are the first run's.
const (
	inputColumns = `c.subject, im.content, r.context, c.metadata, c.first_run_id = r.id`
	fromInputs   = `JOIN {conversations} c ON c.id = r.conversation_id
		JOIN {messages} im ON im.conversation_id = r.conversation_id AND im.id = r.message_id`
)

// inputRow is a row of inputColumns while it is read.
type inputRow struct {
	input webtrigger.RunInput
	first bool
}

func (x *inputRow) dest() []any {
	return []any{&x.input.Subject, &x.input.Message, raw{&x.input.Context}, raw{&x.input.Metadata}, &x.first}
}

func (x *inputRow) read() webtrigger.RunInput {
	if !x.first {
		x.input.Subject, x.input.Metadata = "", nil
	}
	return x.input
}

// RunInput implements [webtrigger.RunStore].
func (s *Store) RunInput(ctx context.Context, runID int64) (webtrigger.RunInput, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.RunInput{}, err
	}
	defer cancel()
	input, err := s.pool().input(ctx, runID)
	return input, s.wrap("read input", err)
}

func (q session) input(ctx context.Context, runID int64) (webtrigger.RunInput, error) {
	var x inputRow
	err := q.row(ctx, `SELECT `+inputColumns+` FROM {runs} r `+fromInputs+` WHERE r.id = $1`, runID).Scan(x.dest()...)
	return x.read(), err
}

// Conversation implements [webtrigger.RunStore].
func (s *Store) Conversation(ctx context.Context, conversationID int64) (webtrigger.Conversation, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Conversation{}, err
	}
	defer cancel()
	c := webtrigger.Conversation{ID: conversationID}
	err = s.row(ctx, `SELECT assistant_id, subject, metadata, created_at FROM {conversations} WHERE id = $1`, conversationID).
		Scan(&c.AssistantID, &c.Subject, raw{&c.Metadata}, stamp{&c.CreatedAt})
	if err != nil {
		return webtrigger.Conversation{}, s.wrap("read conversation", err)
	}
	return c, nil
}

// Messages implements [webtrigger.RunStore].
func (s *Store) Messages(ctx context.Context, conversationID, after int64, limit int) ([]webtrigger.Message, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	rows, err := s.rows(ctx, `SELECT id, run_id, role, content, created_at FROM {messages}
		WHERE conversation_id = $1 AND id > $2 ORDER BY id LIMIT $3`, conversationID, after, limit)
	messages, err := collect(rows, err, func(row scanner) (webtrigger.Message, error) {
		m := webtrigger.Message{ConversationID: conversationID}
		return m, row.Scan(&m.ID, &m.RunID, &m.Role, &m.Content, stamp{&m.CreatedAt})
	})
	return messages, s.wrap("list messages", err)
}

// Events implements [webtrigger.EventStore], at one instant by one statement.
func (s *Store) Events(ctx context.Context, query webtrigger.EventQuery) (webtrigger.EventPage, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.EventPage{}, err
	}
	defer cancel()
	limit, bytes := query.Limit+1, int64(query.MaxBytes) // one more tells that there is more
	if bytes == 0 {
		bytes = 1 << 62
	}
	var rows answer
	if query.RunID == 0 {
		rows, err = s.rows(ctx, conversationEvents, query.ConversationID, query.AfterID, limit, bytes)
	} else {
		rows, err = s.rows(ctx, runEvents, query.ConversationID, query.AfterID, limit, bytes, query.RunID, query.AfterSequence)
	}
	reader := pageReader{query: query}
	err = each(rows, err, reader.read)
	if err == nil && !reader.found {
		err = webtrigger.ErrNotFound
	}
	if err != nil {
		return webtrigger.EventPage{}, s.wrap("read events", err)
	}
	return reader.page, nil
}

// The statements of Events: the conversation's state with each event, or alone
// where there is none. The innermost query stops at the limit; the one around it
// after the event that passes the bytes, and not before the second.
const (
	eventPageColumns = `e.id, e.sequence, e.run_id, k.run_key, e.type, e.payload, e.created_at`

	eventPageBounded = `SELECT *, sum({size}) OVER (ORDER BY id) - {size} AS before, row_number() OVER (ORDER BY id) AS place FROM`

	conversationEvents = `SELECT c.last_event_id, c.purged_event_id, c.open_runs = 0, 0, 0, ` + eventPageColumns + `
		FROM {conversations} c
		LEFT JOIN (` + eventPageBounded + ` (
			SELECT * FROM {events} WHERE conversation_id = $1 AND id > $2 ORDER BY id LIMIT $3) page
		) e ON e.before <= $4 OR e.place = 2
		LEFT JOIN {runs} k ON k.id = e.run_id
		WHERE c.id = $1 ORDER BY e.id`

	runEvents = `SELECT c.last_event_id, 0, k.status IS NOT NULL, k.purged_event_id, k.purged_sequence, ` + eventPageColumns + `
		FROM {conversations} c
		JOIN {runs} k ON k.id = $5 AND k.conversation_id = c.id
		LEFT JOIN (` + eventPageBounded + ` (
			SELECT * FROM {events} WHERE conversation_id = $1 AND id > $2 AND run_id = $5 AND sequence > $6
				AND id >= (SELECT first_event_id + $6 FROM {runs} WHERE id = $5) ORDER BY id LIMIT $3) page
		) e ON e.before <= $4 OR e.place = 2
		WHERE c.id = $1 ORDER BY e.id`
)

// pageReader makes a page of the rows of Events.
type pageReader struct {
	query webtrigger.EventQuery
	page  webtrigger.EventPage
	found bool
	size  int
	full  bool
}

func (p *pageReader) read(row scanner) error {
	var id, sequence, runID sql.NullInt64
	var key, kind, payload sql.NullString
	var purged, purgedOfRun, purgedSequence int64
	e := webtrigger.Event{ConversationID: p.query.ConversationID}
	err := row.Scan(&p.page.LastID, &purged, &p.page.Ended, &purgedOfRun, &purgedSequence, &id, &sequence, &runID, &key, &kind, &payload, stamp{&e.CreatedAt})
	if err != nil {
		return err
	}
	p.found = true
	if purgedSequence > p.query.AfterSequence {
		purged = purgedOfRun
	}
	if purged > p.query.AfterID {
		p.page.PurgedTo = purged
	}
	if !id.Valid || p.full {
		return nil
	}
	p.size += len(payload.String)
	n := len(p.page.Events)
	if p.full = n == p.query.Limit || n > 0 && p.query.MaxBytes > 0 && p.size > p.query.MaxBytes; p.full {
		p.page.More = true
		return nil
	}
	e.ID, e.Sequence, e.RunID, e.RunKey = id.Int64, sequence.Int64, runID.Int64, key.String
	e.Type, e.Payload = webtrigger.EventType(kind.String), []byte(payload.String)
	p.page.Events = append(p.page.Events, e)
	return nil
}

// LastEventIDs implements [webtrigger.EventStore].
func (s *Store) LastEventIDs(ctx context.Context, conversationIDs []int64) (map[int64]int64, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	last := make(map[int64]int64, len(conversationIDs))
	rows, err := s.rows(ctx, `SELECT id, last_event_id FROM {conversations} WHERE id {in ids}`, s.idList(conversationIDs))
	err = each(rows, err, func(row scanner) error {
		var id, event int64
		err := row.Scan(&id, &event)
		last[id] = event
		return err
	})
	return last, s.wrap("read last events", err)
}
