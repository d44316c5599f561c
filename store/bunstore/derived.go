package bunstore

import (
	"database/sql"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// A conversation of one run has no row in the table of conversations, and up to
// three events and two messages of it are in no table: they follow from the rows of
// the run, its place in the queue and its end. Such a conversation is single; see
// promote for how it becomes shared.

// life is what the derived events of a run follow from.
type life struct {
	runID                             int64
	key                               string
	createdAt, startedAt, completedAt time.Time
	attempts                          int
	last, started                     int64  // sequences of the last event, and of the last run_started or 0
	purged                            int64  // sequence of the last event that retention has purged; 0: none
	status, detail, failure           string // status "": open
}

// lifeColumns are what lifeRow reads, of fromLife.
const (
	lifeColumns = `r.id AS run_id, r.run_key, r.created_at, coalesce(q.last_sequence, e.last_sequence, 1) AS last_sequence,
		coalesce(q.started_sequence, e.started_sequence, 0) AS started_sequence, coalesce(q.started_at, e.started_at) AS started_at,
		coalesce(q.attempts, e.attempts, 0) AS attempts, e.status, e.status_detail, e.error_message, e.completed_at,
		coalesce(m.sequence, 0) AS purged_sequence`

	lifeJoins = `LEFT JOIN {queue} q ON q.run_id = r.id LEFT JOIN {ends} e ON e.run_id = r.id
		LEFT JOIN {purge_marks} m ON m.run_id = r.id`
)

// lifeRow is a row of lifeColumns while it is read. An outer join may have found
// no run.
type lifeRow struct {
	life
	id, attempts, last, started, purged sql.NullInt64
	key, status, detail, failure        sql.NullString
}

func (x *lifeRow) dest() []any {
	return []any{&x.id, &x.key, stamp{&x.createdAt}, &x.last, &x.started, stamp{&x.startedAt}, &x.attempts,
		&x.status, &x.detail, &x.failure, stamp{&x.completedAt}, &x.purged}
}

func (x *lifeRow) read() life {
	l := x.life
	l.runID, l.key, l.attempts = x.id.Int64, x.key.String, int(x.attempts.Int64)
	l.last, l.started, l.purged = x.last.Int64, x.started.Int64, x.purged.Int64
	l.status, l.detail, l.failure = x.status.String, x.detail.String, x.failure.String
	return l
}

// derived are the events of a run of a single conversation that no table has and
// that are not purged, in order: run_queued, the last run_started if no requeue came
// after it, and the terminal one. Their ids are their sequences.
func (l life) derived() []webtrigger.Event {
	events := make([]webtrigger.Event, 0, 3)
	add := func(sequence int64, e webtrigger.NewEvent, at time.Time) {
		if sequence <= l.purged {
			return
		}
		events = append(events, webtrigger.Event{ID: sequence, ConversationID: l.runID, RunID: l.runID, RunKey: l.key,
			Sequence: sequence, Type: e.Type, Payload: e.Payload, CreatedAt: at})
	}
	add(1, webtrigger.QueuedEvent(), l.createdAt)
	if l.started > 0 {
		add(l.started, webtrigger.StartedEvent(l.attempts), l.startedAt)
	}
	if l.status != "" {
		outcome := webtrigger.Outcome{Status: webtrigger.RunStatus(l.status), StatusDetail: l.detail, ErrorMessage: l.failure}
		add(l.last, outcome.Event(), l.completedAt)
	}
	return events
}
