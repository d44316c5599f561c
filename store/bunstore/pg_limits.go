package bunstore

import (
	"context"

	"github.com/webtrigger-go/webtrigger"
)

// The statements that claim in turns within limits of running runs: $8 for an assistant,
// $9 for a key. They run in a transaction under lockLimits, and see the claims of all
// that had the lock before.
//
// An assistant at its limit does not count toward the assistants that a statement
// visits. Without runs to claim among those visited, the next statement continues. So
// what is at a limit hides nothing else, and there is no more of it than running runs.
const (
	// pgClaimWithinText claims within the limit of assistants.
	pgClaimWithinText = pgFairBegin + pgCountAll + pgCountEnd + pgWalkBegin + pgAtLimit + pgWalkEnd + pgTurnsBegin + pgBelowLimit + pgTurnsEnd + pgFound +
		pgRanked + pgWithin + pgTake

	// pgClaimWithinKeysText claims within both limits.
	pgClaimWithinKeysText = pgFairBegin + pgCountAll + pgCountEnd + pgWalkBegin + pgAtLimit + pgWalkEnd + pgTurnsBegin + pgBelowLimit + `
	),` + pgLevel + pgFoundByKey + pgRankedByKey + pgWithin + pgTake

	pgAtLimit    = ` - EXISTS (SELECT FROM soon WHERE assistant_id = next.assistant_id AND running >= $8)::int`
	pgBelowLimit = ` AND coalesce(b.running, 0) < $8::bigint`

	// pgFoundByKey reads the oldest runs of up to 64 keys of each assistant, from a
	// random one on. A key at its limit does not count toward the 64.
	pgFoundByKey = `
	found AS (
		SELECT r.* FROM level
		CROSS JOIN LATERAL (
			WITH RECURSIVE ends AS MATERIALIZED (
				SELECT
					(SELECT key_id FROM {queue} WHERE ` + pgOfLevel + ` ORDER BY assistant_id, key_id, run_id LIMIT 1) AS first,
					(SELECT key_id FROM {queue} WHERE ` + pgOfLevel + ` ORDER BY assistant_id DESC, key_id DESC, run_id DESC LIMIT 1) AS last
			),
			keys (key_id, start, lap, step, open) AS (
				SELECT s.start, s.start, 0, 0, 0
				FROM (SELECT first - 1 + floor(random() * (last - first + 1))::bigint AS start FROM ends) s
				UNION ALL
				SELECT next.key_id, keys.start, next.lap, keys.step + 1, keys.open + 1
					- EXISTS (SELECT FROM load WHERE next.key_id <> 0 AND load.key_id = next.key_id AND load.running >= $9)::int
				FROM keys CROSS JOIN LATERAL (
					SELECT * FROM (
						(SELECT key_id, keys.lap AS lap FROM {queue} WHERE ` + pgQueuedByKey + `
							AND (assistant_id, key_id) > (level.assistant_id, keys.key_id) AND assistant_id <= level.assistant_id
							ORDER BY assistant_id, key_id, run_id LIMIT 1)
						UNION ALL
						(SELECT key_id, 1 FROM {queue} WHERE ` + pgOfLevel + ` AND keys.lap = 0 ORDER BY assistant_id, key_id, run_id LIMIT 1)
					) following LIMIT 1
				) next
				WHERE keys.open < 64 AND NOT (next.lap = 1 AND next.key_id > keys.start)
			)
			SELECT key_id FROM keys WHERE step > 0
		) k
		LEFT JOIN load ON load.assistant_id = level.assistant_id AND load.key_id = k.key_id
		CROSS JOIN LATERAL (
			SELECT run_id, assistant_id, key_id FROM {queue} WHERE ` + pgQueuedByKey + `
				AND (assistant_id, key_id) >= (level.assistant_id, k.key_id) AND (assistant_id, key_id) <= (level.assistant_id, k.key_id)
			ORDER BY assistant_id, key_id, run_id
			LIMIT CASE WHEN k.key_id = 0 THEN level.runs ELSE greatest(0, least(level.runs, $9::bigint - coalesce(load.running, 0))) END
		) r
	),`

	pgOfLevel = pgQueuedByKey + ` AND assistant_id >= level.assistant_id AND assistant_id <= level.assistant_id`

	// pgQueuedByKey names the index of queued runs by assistant and key.
	pgQueuedByKey = `state = 'q' AND native AND key_id >= 0`

	// pgRankedByKey is pgRanked without the runs of keys at their limit.
	pgRankedByKey = `
	candidate AS (
		SELECT run_id, assistant_id FROM (
			SELECT c.*, coalesce(l.running, 0) + row_number() OVER (PARTITION BY c.assistant_id, c.key_id ORDER BY c.run_id) AS of_key
			FROM (SELECT * FROM seen UNION SELECT * FROM found) c
			LEFT JOIN load l ON l.assistant_id = c.assistant_id AND l.key_id = c.key_id
		) x WHERE key_id = 0 OR of_key <= $9
	),` + pgRankedEnd

	// pgWithin leaves out the runs beyond the limit of their assistants.
	pgWithin = `
	allowed AS (SELECT * FROM ranked WHERE turn <= $8),`
)

// limited reports whether a claim has a limit of running runs.
func limited(claim webtrigger.Claim) bool { return claim.MaxPerAssistant > 0 || claim.MaxPerKey > 0 }

// noLimit is more than the number of running runs.
const noLimit = 1 << 40

func limitOr(limit int) int64 {
	if limit > 0 {
		return int64(limit)
	}
	return noLimit
}

// lockLimits waits until no other claim with a limit is in progress. Statements that
// follow see what those have claimed. If the client stops, the server ends the
// transaction, so that other claims do not wait.
func (s *Store) lockLimits(ctx context.Context, on session) error {
	rows, err := on.rows(ctx, `SELECT set_config('idle_in_transaction_session_timeout', '5s', true), pg_advisory_xact_lock($1)::text`, s.lockNumber("limits"))
	return each(rows, err, func(scanner) error { return nil })
}

// pgClaimLimited claims within limits.
func (s *Store) pgClaimLimited(ctx context.Context, claim webtrigger.Claim) (claimed []webtrigger.ClaimedRun, _ error) {
	const rounds = 100
	err := again(ctx, func() error {
		return s.transact(ctx, func(on session) error {
			claimed = nil
			if err := s.lockLimits(ctx, on); err != nil {
				return err
			}
			start, wrapped, next := s.turns.get(), false, claim
			for range rounds {
				more, visited, err := s.pgClaimStatement(ctx, on, limitedText(claim), s.limitedArgs(next)...)
				if err != nil {
					return err
				}
				claimed = append(claimed, more...)
				next.Limit, next.Token = claim.Limit-len(claimed), claim.Token+int64(len(claimed))
				if visited != nil {
					wrapped = wrapped || visited.last <= s.turns.get()
					s.turns.set(visited)
				}
				if next.Limit == 0 || visited.complete() || wrapped && visited.last >= start {
					break
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

func limitedText(claim webtrigger.Claim) string {
	if claim.MaxPerKey > 0 {
		return pgClaimWithinKeysText
	}
	return pgClaimWithinText
}

func (s *Store) limitedArgs(claim webtrigger.Claim) []any {
	args := append(s.fairArgs(claim), limitOr(claim.MaxPerAssistant))
	if claim.MaxPerKey > 0 {
		args = append(args, int64(claim.MaxPerKey))
	}
	return args
}
