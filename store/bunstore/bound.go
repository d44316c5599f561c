package bunstore

import (
	"context"
	"hash/fnv"
	"slices"

	"github.com/webtrigger-go/webtrigger"
)

// The bound on an assistant's queued runs. A run that came with one is bounded in
// the queue, where a partial index counts the queued ones. A run without a bound
// costs that index nothing.
//
// Counting and storing are one step only if no other call does the same between
// them. SQLite has one writer. On Postgres such accepts begin with an advisory lock
// of their assistants, by ascending number, and count in a statement after it,
// which sees what was committed under the lock before.

// countBounded counts up to $2 queued runs that take a place in an assistant's
// queue.
const countBounded = `SELECT count(*) FROM (
	SELECT 1 FROM {queue} WHERE assistant_id = $1 AND state = 'q' AND bounded
	UNION ALL SELECT 1 FROM {queue} WHERE assistant_id = $1 AND state = 'b' AND bounded LIMIT $2) waiting`

// waitsBounded reports whether a trigger's run would take a place in the queue of
// its assistant.
func waitsBounded(trigger *webtrigger.NewTrigger) bool {
	return trigger.MaxQueued > 0 && trigger.Claim == nil
}

// room rejects a queued run beyond its bound. Batches wait for the lock of the bound, so
// it follows all locks that a host's transaction may have. A host's transaction may last
// long and does not take this lock. A batch has it already. freed is the number of
// queued runs that the trigger ends.
func (t *tx) room(trigger *webtrigger.NewTrigger, freed int) error {
	if !waitsBounded(trigger) {
		return nil
	}
	if t.store.postgres && !t.host && !t.tries {
		if err := t.store.lockBounds(t.ctx, t.session, trigger); err != nil {
			return err
		}
	}
	var waiting int
	err := t.row(t.ctx, countBounded, trigger.AssistantID, trigger.MaxQueued+freed).Scan(&waiting)
	if err == nil && waiting-freed >= trigger.MaxQueued {
		err = webtrigger.ErrQueueFull
	}
	return err
}

// pgAcceptBoundedText is pgAcceptText for queued runs within bounds. A run beyond its
// bound has the id 0 in the answer. A copy of a stored request uses no place: it is
// missing in the answer, like every trigger that is not stored. A trigger that its
// process must not claim is missing too, because the lock of its bound is not held.
const pgAcceptBoundedText = pgAcceptInput + `,
	placed AS MATERIALIZED (
		SELECT i.ord, i.assistant, i.bound, row_number() OVER (PARTITION BY i.assistant ORDER BY i.ord) AS place FROM input i
		WHERE i.free AND ` + pgPermitted + ` AND i.bound IS NOT NULL AND NOT i.wanted AND NOT EXISTS (SELECT 1 FROM {idempotency_keys} k
			WHERE k.assistant_id = i.assistant AND k.key = i.request AND k.expires_at > clock_timestamp())
	),
	waiting AS MATERIALIZED (
		SELECT a.assistant, (SELECT count(*) FROM
			(SELECT 1 FROM {queue} q WHERE q.assistant_id = a.assistant AND q.state = 'q' AND q.bounded
			UNION ALL SELECT 1 FROM {queue} q WHERE q.assistant_id = a.assistant AND q.state = 'b' AND q.bounded LIMIT a.most) q) AS queued
		FROM (SELECT assistant, max(bound) AS most FROM placed GROUP BY assistant) a
	),
	within AS MATERIALIZED (
		SELECT p.ord FROM placed p JOIN waiting w ON w.assistant = p.assistant WHERE w.queued + p.place <= p.bound
	),` + pgAdmit + ` AND (bound IS NULL OR taken OR ord IN (SELECT ord FROM within))),` + pgRecord + pgAcceptStore + `
	UNION ALL SELECT ord, 0, clock_timestamp(), false FROM placed WHERE ord NOT IN (SELECT ord FROM within)`

// boundedTriggers are the triggers of a batch that would take a place.
func boundedTriggers(calls []*accepting) (bounded []*webtrigger.NewTrigger) {
	for _, c := range calls {
		if waitsBounded(&c.arg.NewTrigger) {
			bounded = append(bounded, &c.arg.NewTrigger)
		}
	}
	return bounded
}

// pgStoreBounded is pgStore in a transaction, within the bounds of the triggers that
// have one.
func (s *Store) pgStoreBounded(ctx context.Context, on session, input pgTriggers, calls []*accepting) ([]bool, webtrigger.Hint, error) {
	text := input.text()
	if bounds := boundedTriggers(calls); len(bounds) > 0 {
		if err := s.lockBounds(ctx, on, bounds...); err != nil {
			return nil, webtrigger.Hint{}, err
		}
		text = pgAcceptBoundedText
	}
	return s.pgStore(ctx, on, text, input, calls)
}

// lockBounds keeps others, until the transaction ends, from filling the queues of
// these triggers' runs. If the client stops, the server ends the transaction, so that
// triggers that share a batch with one of these assistants do not wait longer.
func (s *Store) lockBounds(ctx context.Context, on session, triggers ...*webtrigger.NewTrigger) error {
	locks := make([]int64, len(triggers))
	for i, trigger := range triggers {
		locks[i] = s.boundLock(trigger.AssistantID)
	}
	slices.Sort(locks)
	idle, lock := s.limits(ctx)
	rows, err := on.rows(ctx, `SELECT `+setLimits+`, pg_advisory_xact_lock(id)::text FROM unnest($3::bigint[]) AS id`,
		idle, lock, s.idList(slices.Compact(locks)))
	return each(rows, err, func(scanner) error { return nil })
}

// boundLock is the number of an assistant's advisory lock. Two assistants with one
// number wait for each other, with no other effect.
func (s *Store) boundLock(assistantID string) int64 { return s.lockNumber("queue/" + assistantID) }

// lockNumber is the number of the advisory lock of this name, among the tables of
// this store.
func (s *Store) lockNumber(of string) int64 {
	name := fnv.New64a()
	_, _ = name.Write([]byte(s.tablePrefix() + of))
	return int64(name.Sum64())
}
