package bunstore

import (
	"context"
	"sync"

	"github.com/webtrigger-go/webtrigger"
)

// The statements that claim queued runs in turns on Postgres. None reads the whole
// queue. Candidates are
//
//   - the oldest runs of the queue ("seen"). If that is all that waits, the turns are
//     exact.
//   - The turns are also exact if enough of these runs are of assistants without running
//     runs.
//   - Otherwise also the oldest runs of up to 32 assistants ("walk"), from the one
//     after $7 on. The next claim of this store begins where the last one ended.
//
// The walk visits one index entry for each assistant, and reads the runs of those with
// the fewest running runs. "level" is the number of running runs up to which twice the
// claim's limit would fill them.
//
// Candidates are read without locks and then locked in their turns, each with its
// conversation where that is shared. Locked ones are passed over.
const (
	// pgClaimText claims runs in turns. The first one gets the token $2, each following
	// one the next number.
	pgClaimText = pgFairBegin + pgCountBegin + pgCountEnd + pgWalkBegin + pgWalkEnd + pgTurnsBegin + pgTurnsEnd + pgFound + pgRanked + pgAll + pgTake

	// pgFairBegin reads the head of the queue.
	pgFairBegin = `
	WITH RECURSIVE ` + pgClaimant + `,
	seen AS MATERIALIZED (
		SELECT run_id, assistant_id, key_id FROM (
			(SELECT run_id, assistant_id, key_id FROM {queue} WHERE state = 'q' AND native AND NOT shared AND EXISTS (SELECT FROM me)
				ORDER BY run_id LIMIT ` + pgWindow + `)
			UNION ALL
			(SELECT run_id, assistant_id, key_id FROM {queue} WHERE state = 'q' AND native AND shared AND EXISTS (SELECT FROM me)
				ORDER BY run_id LIMIT ` + pgWindow + `)
		) u ORDER BY run_id LIMIT ` + pgWindow + `
	),
	head AS MATERIALIZED (SELECT min(assistant_id) <> max(assistant_id) AS mixed FROM seen),`

	// Running runs are counted, by key and by assistant, if there is a choice between
	// assistants: among the runs of the head ("early"), or else after the walk ("late").
	pgCountBegin = `
	early AS MATERIALIZED (` + pgCounted + ` WHERE (SELECT mixed FROM head)` + pgCountedEnd + `),
	late AS MATERIALIZED (` + pgCounted + ` WHERE NOT (SELECT mixed FROM head) AND (SELECT count(*) FROM walk) > 2` + pgCountedEnd + `),`

	// pgCountAll counts in any case.
	pgCountAll = `
	early AS MATERIALIZED (` + pgCounted + pgCountedEnd + `),
	late AS MATERIALIZED (SELECT * FROM early WHERE false),`

	pgCountEnd = `
	soon AS MATERIALIZED (SELECT assistant_id, sum(running)::bigint AS running FROM early GROUP BY assistant_id),
	load AS MATERIALIZED (SELECT * FROM early UNION ALL SELECT * FROM late),
	busy AS MATERIALIZED (SELECT assistant_id, sum(running)::bigint AS running FROM load GROUP BY assistant_id),`

	// pgCounted reads the index of running runs, because of the conditions on process_id.
	pgCounted = `
		SELECT assistant_id, key_id, count(*) AS running FROM (
			SELECT assistant_id, key_id FROM {queue} WHERE state = 'r' AND process_id >= ''
			UNION ALL
			SELECT assistant_id, key_id FROM {queue} WHERE state = 'r' AND process_id IS NULL
		) r`
	pgCountedEnd = ` GROUP BY assistant_id, key_id`

	pgWindow = `greatest(128, 2 * $1::bigint)`

	// pgWalkBegin visits assistants in order, from $7 to the end and from the beginning
	// to $7. It has no row if the head was the whole queue. Between it and pgWalkEnd,
	// an assistant can be left out of the number of assistants.
	pgWalkBegin = `
	rested AS MATERIALIZED (
		SELECT count(DISTINCT assistant_id) AS idle FROM seen WHERE NOT EXISTS (SELECT FROM soon WHERE soon.assistant_id = seen.assistant_id)
	),
	walk (assistant_id, run_id, lap, step, open) AS (
		SELECT $7::text COLLATE "C", 0::bigint, 0, 0, (SELECT CASE WHEN idle >= $1 + 8 THEN ` + pgWalked + ` ELSE 0 END FROM rested)
		WHERE (SELECT count(*) FROM seen) >= ` + pgWindow + `
		UNION ALL
		SELECT next.assistant_id, next.run_id, next.lap, walk.step + 1, walk.open + 1`

	pgWalkEnd = `
		FROM walk CROSS JOIN LATERAL (
			SELECT first.*, following.lap
			FROM (SELECT walk.assistant_id AS after, walk.lap UNION ALL SELECT '', 1 WHERE walk.lap = 0) following
			CROSS JOIN LATERAL (
				SELECT assistant_id, run_id FROM {queue} WHERE ` + pgQueued + ` AND assistant_id > following.after
				ORDER BY assistant_id, run_id LIMIT 1
			) first
			LIMIT 1
		) next
		WHERE walk.open < ` + pgWalked + ` AND NOT (next.lap = 1 AND next.assistant_id > $7)
	),`

	walked   = 32 // assistants
	pgWalked = `32`

	// pgQueued names the index of queued runs by assistant.
	pgQueued = `state = 'q' AND native AND run_id > 0`

	// pgTurnsBegin and pgTurnsEnd pick the assistants whose runs are read. Further
	// conditions may stand between them.
	pgTurnsBegin = `
	turns AS MATERIALIZED (
		SELECT w.assistant_id, w.run_id, coalesce(b.running, 0) AS running FROM walk w LEFT JOIN busy b ON b.assistant_id = w.assistant_id
		WHERE w.step > 0`

	pgTurnsEnd = `
		ORDER BY coalesce(b.running, 0), w.run_id LIMIT $1 + 8
	),` + pgLevel

	pgLevel = `
	level AS MATERIALIZED (
		SELECT assistant_id, greatest(1, min(level) OVER () - running) AS runs FROM (
			SELECT assistant_id, running, ceil((2 * $1 + sum(running) OVER earlier) / row_number() OVER earlier)::bigint AS level
			FROM turns WINDOW earlier AS (ORDER BY running, run_id)
		) l
	),`

	// pgFound reads the oldest runs of these assistants. The conditions name the index
	// of turns: by assistant_id = …, the primary key would have the order too.
	pgFound = `
	found AS (
		SELECT r.* FROM level CROSS JOIN LATERAL (
			SELECT run_id, assistant_id, key_id FROM {queue}
			WHERE ` + pgQueued + ` AND assistant_id >= level.assistant_id AND assistant_id <= level.assistant_id
			ORDER BY assistant_id, run_id LIMIT level.runs
		) r
	),`

	// pgRanked is the turn of each candidate.
	pgRanked = `
	candidate AS (SELECT * FROM seen UNION SELECT * FROM found),` + pgRankedEnd

	pgRankedEnd = `
	ranked AS (
		SELECT c.run_id, coalesce(b.running, 0) + row_number() OVER (PARTITION BY c.assistant_id ORDER BY c.run_id) AS turn
		FROM candidate c LEFT JOIN busy b ON b.assistant_id = c.assistant_id
	),`

	pgAll = `
	allowed AS (SELECT * FROM ranked),`

	// pgTake locks runs by their turns and claims them. The answer also has a row with
	// the run id -1 if the queue is longer than its head: the last assistant visited,
	// and how many.
	pgTake = `
	free AS MATERIALIZED (
		SELECT run_id, row_number() OVER (ORDER BY turn, run_id) - 1 AS place FROM (
			SELECT c.run_id, c.turn FROM (SELECT run_id, turn FROM allowed ORDER BY turn, run_id) c
			CROSS JOIN LATERAL (SELECT shared, conversation_id FROM {queue}
				WHERE run_id = c.run_id AND state::text = 'q' AND native LIMIT 1 FOR UPDATE SKIP LOCKED) w
			CROSS JOIN LATERAL (
				SELECT 1 WHERE NOT w.shared
				UNION ALL
				SELECT 1 FROM (SELECT FROM {conversations} WHERE w.shared AND id = w.conversation_id LIMIT 1 FOR UPDATE SKIP LOCKED) c
			) lane
			LIMIT $1
		) l
	),` + pgClaimed + `,` + pgStarted + pgClaimAnswer + `
	UNION ALL
	(SELECT -1, 0, open, NULL, '00000000-0000-0000-0000-000000000000', 0, assistant_id, 0, NULL, '', '', '', '', NULL, '', '', NULL, NULL, 1
		FROM walk ORDER BY step DESC LIMIT 1)
	ORDER BY 2`
)

// visit is where a statement that claims in turns has stopped.
type visit struct {
	last       string // the last assistant visited
	assistants int    // number of those visited that are below their limit
}

// complete reports whether the statement has visited all assistants with queued runs.
func (v *visit) complete() bool { return v == nil || v.assistants < walked }

// turns is where the next claim of a store starts its walk.
type turns struct {
	mu   sync.Mutex
	last string
}

func (t *turns) get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

func (t *turns) set(v *visit) {
	if v == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = v.last
}

func (s *Store) fairArgs(claim webtrigger.Claim) []any {
	return []any{int64(claim.Limit), claim.Token, claim.ProcessID,
		string(webtrigger.EventRunStarted), s.started.before, s.started.after, s.turns.get()}
}

// pgClaimInTurn claims without limits of running runs. If other transactions have
// locked what the first statement has found, and more is queued, it claims the oldest
// runs that are free.
func (s *Store) pgClaimInTurn(ctx context.Context, claim webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	claimed, visited, err := s.pgClaimStatement(ctx, s.pool(), pgClaimText, s.fairArgs(claim)...)
	if err != nil {
		return nil, err
	}
	s.turns.set(visited)
	if missing := claim.Limit - len(claimed); missing > 0 && visited != nil {
		more, _, err := s.pgClaimStatement(ctx, s.pool(), pgClaimOldestText, int64(missing), claim.Token+int64(len(claimed)), claim.ProcessID,
			string(webtrigger.EventRunStarted), s.started.before, s.started.after)
		if err != nil {
			return nil, err // heartbeats return all these claims
		}
		claimed = append(claimed, more...)
	}
	return claimed, nil
}
