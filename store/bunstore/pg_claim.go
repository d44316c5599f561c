package bunstore

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// The statements that claim queued runs on Postgres, and their parts. They wait for no
// locked row. pg_fair.go decides which is used.
const (
	// pgClaimSharesText claims runs of the assistants in $7, in their turns. Each
	// assistant has its running runs there, and how many of its queued ones are read. $8
	// is the limit of running runs.
	pgClaimSharesText = pgSharesBegin + `
			SELECT run_id FROM {queue}
			WHERE ` + pgQueued + ` AND assistant_id >= s.assistant_id AND assistant_id <= s.assistant_id
			ORDER BY assistant_id, run_id LIMIT s.runs` + pgSharesEnd

	// pgClaimKeySharesText has the shares of keys in $7.
	pgClaimKeySharesText = pgSharesBegin + `
			SELECT run_id FROM {queue} WHERE ` + pgQueuedByKey + `
				AND (assistant_id, key_id) >= (s.assistant_id, s.key_id) AND (assistant_id, key_id) <= (s.assistant_id, s.key_id)
			ORDER BY assistant_id, key_id, run_id LIMIT s.runs` + pgSharesEnd

	// The conditions name the index: by assistant_id = …, the primary key would have the
	// order too. Because of x + 0 = x, the planner expects few shares and few runs.
	pgSharesBegin = `
	WITH ` + pgClaimant + `,
	found AS (
		SELECT r.run_id, s.running + row_number() OVER (PARTITION BY s.assistant_id ORDER BY r.run_id) AS turn
		FROM (SELECT assistant_id COLLATE "C" AS assistant_id, key_id, running, runs
			FROM json_to_recordset($7::json) AS s(assistant_id text, key_id bigint, running bigint, runs bigint) WHERE running + 0 = running) s
		CROSS JOIN LATERAL (`

	pgSharesEnd = `
		) r WHERE EXISTS (SELECT FROM me)
	),
	free AS MATERIALIZED (
		SELECT run_id, row_number() OVER (ORDER BY turn, run_id) - 1 AS place FROM (
			SELECT f.run_id, f.turn FROM (SELECT * FROM found WHERE turn <= $8::bigint AND turn + 0 = turn ORDER BY turn, run_id) f
			CROSS JOIN LATERAL (SELECT shared, conversation_id FROM {queue}
				WHERE run_id = f.run_id AND state::text = 'q' AND native LIMIT 1 FOR UPDATE SKIP LOCKED) w
			WHERE NOT w.shared OR EXISTS (SELECT FROM {conversations} WHERE id = w.conversation_id LIMIT 1 FOR UPDATE SKIP LOCKED)
			LIMIT $1
		) l
	),` + pgClaimed + `,` + pgStarted + pgClaimAnswer + `
	ORDER BY 2`

	// pgClaimOldestText claims the oldest runs that no other transaction has locked. A
	// lane, which is a shared conversation with queued runs, is locked before it is
	// counted toward the limit: a conversation that another transaction has locked hides
	// only its own runs.
	pgClaimOldestText = `
	WITH ` + pgClaimant + `,
	single AS MATERIALIZED (
		SELECT run_id FROM {queue} WHERE state = 'q' AND native AND NOT shared AND EXISTS (SELECT FROM me)
		ORDER BY run_id LIMIT $1 FOR UPDATE SKIP LOCKED
	),
	lane AS MATERIALIZED (
		SELECT w.run_id FROM (
			SELECT run_id, conversation_id FROM {queue} WHERE state = 'q' AND native AND shared AND EXISTS (SELECT FROM me)
			ORDER BY run_id FOR UPDATE SKIP LOCKED
		) w
		CROSS JOIN LATERAL (SELECT FROM {conversations} WHERE id = w.conversation_id LIMIT 1 FOR UPDATE SKIP LOCKED) c
		LIMIT $1
	),
	free AS MATERIALIZED (
		SELECT run_id, row_number() OVER (ORDER BY run_id) - 1 AS place
		FROM (SELECT run_id FROM single UNION ALL SELECT run_id FROM lane) u ORDER BY run_id LIMIT $1
	),` + pgClaimed + `,` + pgStarted + pgClaimAnswer + `
	ORDER BY 1`

	// pgClaimOneText claims a run of a single conversation.
	pgClaimOneText = `
	WITH ` + pgClaimant + `,
	free AS MATERIALIZED (
		SELECT run_id, 0 AS place FROM {queue}
		WHERE run_id = $1 AND state::text = 'q' AND NOT shared AND EXISTS (SELECT FROM me) LIMIT 1 FOR UPDATE SKIP LOCKED
	),` + pgClaimed + pgClaimAnswer

	// pgClaimant is the claiming process if it is registered and not lost. It is not
	// locked: a claim that is committed after the process was marked as lost is one
	// that the sweep finds.
	pgClaimant = `
	me AS MATERIALIZED (SELECT id FROM {processes} WHERE id = $3 AND lost_at IS NULL LIMIT 1)`

	pgClaimed = `
	q AS (
		UPDATE {queue} q SET state = 'r', token = $2::bigint + free.place, process_id = $3, batch = 0, attempts = q.attempts + 1,
			last_sequence = q.last_sequence + 1, started_sequence = q.last_sequence + 1, started_at = clock_timestamp()
		FROM free WHERE q.run_id = ANY (ARRAY[free.run_id]) AND free.run_id + 0 = free.run_id
		RETURNING q.run_id, q.conversation_id, q.shared, q.token, q.attempts, q.last_sequence, q.started_at, q.executed_us
	)`

	// pgStarted stores run_started for shared conversations, which free has locked.
	pgStarted = `
	entries AS (
		SELECT conversation_id, row_number() OVER (PARTITION BY conversation_id ORDER BY run_id) AS place, run_id,
			last_sequence AS sequence, $4 AS type, $5 || attempts || $6 AS payload, started_at AS now FROM q WHERE shared
	),
	growth AS (
		SELECT conversation_id, count(*) AS events FROM q WHERE shared GROUP BY conversation_id
	),
	locked AS MATERIALIZED (
		SELECT g.* FROM (SELECT * FROM growth ORDER BY conversation_id) g
		CROSS JOIN LATERAL (SELECT FROM {conversations} WHERE id = g.conversation_id LIMIT 1 FOR UPDATE) c
	),
	grown AS (
		UPDATE {conversations} c SET last_event_id = c.last_event_id + g.events FROM locked g WHERE c.id = ANY (ARRAY[g.conversation_id]) AND g.conversation_id + 0 = g.conversation_id
		RETURNING c.id, c.last_event_id - g.events AS before
	),
	logged AS (
		INSERT INTO {events} (conversation_id, id, run_id, sequence, type, payload, created_at)
		SELECT e.conversation_id, grown.before + e.place, e.run_id, e.sequence, e.type, e.payload, e.now
		FROM entries e JOIN grown ON grown.id = e.conversation_id
	)`

	// pgClaimAnswer has one row with the run id 0 if the process must not claim. The first
	// run_started of a run has the sequence 2.
	pgClaimAnswer = `
	SELECT q.run_id, q.token, q.attempts, q.started_at, r.run_key, r.conversation_id, r.assistant_id, r.key_id, ` + fullTask + `, r.base_url,
		r.callback_url, r.trace_parent, r.request_id, r.created_at, r.subject, r.message, r.context, r.metadata, r.message_id, r.conversation_key,
		q.last_sequence > 2, q.executed_us
	FROM q CROSS JOIN LATERAL (SELECT * FROM {runs} WHERE id = q.run_id LIMIT 1) r
	UNION ALL
	SELECT 0, 0, 0, NULL, '00000000-0000-0000-0000-000000000000', 0, '', 0, NULL, '', '', '', '', NULL, '', '', NULL, NULL, 1, NULL, false, 0
	WHERE NOT EXISTS (SELECT FROM me)`

	pgMixedAnswer = `
	UNION ALL
	SELECT -1, 0, 0, NULL, '00000000-0000-0000-0000-000000000000', 0, '', 0, NULL, '', '', '', '', NULL, '', '', NULL, NULL, 1, NULL, false, 0
	FROM head WHERE mixed`
)

// pgClaimSole claims the oldest runs if all queued runs are of one assistant, and none
// is of a shared conversation. Otherwise it claims nothing, and the answer has a row with
// the run id -1.
//
// With LIMIT $1, Postgres expects to read a tenth of the queue, and makes a new plan for each
// claim of a few runs. Their text has a second limit for that. No more rows are read and
// locked than $1. By the subselect the planner prefers the order of the index to a sort,
// whatever its statistics are.
func pgClaimSole(some string) string {
	return strings.ReplaceAll(`
	WITH `+pgClaimant+`,
	last AS MATERIALIZED (
		SELECT assistant_id FROM {queue} WHERE `+pgQueued+` AND assistant_id > (SELECT '') AND EXISTS (SELECT FROM me)
		ORDER BY assistant_id DESC, run_id DESC LIMIT 1
	),
	head AS MATERIALIZED (
		SELECT assistant_id, (SELECT true FROM {queue} WHERE `+pgQueued+` AND assistant_id < last.assistant_id
				ORDER BY assistant_id DESC, run_id DESC LIMIT 1) IS NOT NULL
			OR (SELECT true FROM {queue} WHERE state = 'q' AND native AND shared ORDER BY run_id LIMIT 1) IS NOT NULL AS mixed
		FROM last
	),
	free AS MATERIALIZED (
		SELECT run_id, row_number() OVER () - 1 AS place FROM (
			SELECT run_id FROM (
				SELECT run_id FROM {queue} WHERE `+pgQueued+` AND NOT shared
					AND assistant_id BETWEEN (SELECT assistant_id FROM head WHERE NOT mixed) AND (SELECT assistant_id FROM head)
				ORDER BY assistant_id, run_id {some} FOR UPDATE SKIP LOCKED
			) u LIMIT $1
		) l
	),`+pgClaimed+pgClaimAnswer+pgMixedAnswer+`
	ORDER BY 2`, "{some}", some)
}

var pgClaimFewText, pgClaimManyText = pgClaimSole("LIMIT 16"), pgClaimSole("")

// pgClaim claims queued runs.
func (s *Store) pgClaim(ctx context.Context, claim webtrigger.Claim) (claimed []webtrigger.ClaimedRun, err error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	switch {
	case claim.RunID == 0 && limited(claim):
		claimed, err = s.pgClaimLimited(ctx, claim)
	case claim.RunID == 0:
		claimed, err = s.pgClaimInTurn(ctx, claim)
	case !limited(claim):
		claimed, _, err = s.pgClaimStatement(ctx, s.pool(), pgClaimOneText, claim.RunID, claim.Token, claim.ProcessID)
	}
	if err != nil {
		return nil, s.wrap("claim runs", err)
	}
	if len(claimed) == 0 && claim.RunID != 0 { // limited, of a shared conversation, locked, or not queued
		return s.claimAlone(ctx, claim)
	}
	var hint webtrigger.Hint
	for i := range claimed {
		hint.Conversations = append(hint.Conversations, claimed[i].Run.ConversationID)
	}
	s.share(hint)
	return claimed, nil
}

// pgClaimStatement executes a statement that claims. mixed is the answer of
// pgClaimSole that it claims nothing.
func (s *Store) pgClaimStatement(ctx context.Context, on session, text string, args ...any) (claimed []webtrigger.ClaimedRun, mixed bool, _ error) {
	x := newClaimedRow()
	do := func() error {
		claimed, mixed = nil, false
		rows, err := on.rows(ctx, text, args...)
		if h, ok := rows.(*held); ok {
			claimed = make([]webtrigger.ClaimedRun, 0, len(h.rows))
		}
		return each(rows, err, func(row scanner) error {
			c, err := x.read(row)
			if err != nil {
				return s.passOver(ctx, err) // the next heartbeat returns it
			}
			switch c.Run.ID {
			case 0:
				return webtrigger.ErrLeaseLost
			case -1:
				mixed = true
			default:
				claimed = append(claimed, c)
			}
			return nil
		})
	}
	var err error
	if on.pooled {
		err = again(ctx, do)
	} else { // the transaction is done again as a whole
		err = do()
	}
	return claimed, mixed, err
}

// claimedRow is a row of pgClaimAnswer while it is read. One serves for all rows: each
// column of a row replaces that of the row before.
type claimedRow struct {
	claimed             webtrigger.ClaimedRun
	task                []byte
	messageID, executed int64
	conversationKey     sql.NullString
	dest                []any
}

func newClaimedRow() *claimedRow {
	x := &claimedRow{}
	c, r := &x.claimed, &x.claimed.Run
	x.dest = []any{
		&r.ID, &c.Lease.Token, &r.Attempts, stamp{&r.StartedAt}, &r.Key, &r.ConversationID, &r.AssistantID, &r.KeyID, &x.task, &r.BaseURL,
		&r.CallbackURL, &r.TraceParent, &r.RequestID, stamp{&r.CreatedAt}, &c.Input.Subject, &c.Input.Message,
		raw{&c.Input.Context}, raw{&c.Input.Metadata}, &x.messageID, &x.conversationKey, &c.Requeued, &x.executed,
	}
	return x
}

func (x *claimedRow) read(row scanner) (webtrigger.ClaimedRun, error) {
	if err := row.Scan(x.dest...); err != nil {
		return webtrigger.ClaimedRun{}, err
	}
	c := x.claimed
	c.Run.Status, c.Lease.RunID = webtrigger.RunRunning, c.Run.ID
	c.Executed = time.Duration(x.executed) * time.Microsecond
	c.Run.Continues, c.Run.ConversationKey = x.messageID > firstMessage, x.conversationKey.String
	return c, setTask(&c.Run, x.task)
}

// claimAlone claims queued runs one by one in a transaction.
func (s *Store) claimAlone(ctx context.Context, claim webtrigger.Claim) (claimed []webtrigger.ClaimedRun, _ error) {
	err := s.writeOpen(ctx, "claim runs", func(t *tx) (err error) {
		claimed, err = t.claim(claim)
		return err
	})
	return claimed, err
}
