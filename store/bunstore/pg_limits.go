package bunstore

import (
	"context"

	"github.com/webtrigger-go/webtrigger"
)

// Claims in turns within limits of running runs. They run in a transaction under
// lockLimits, and see the claims of all that had the lock before.
//
// What is at a limit hides nothing else: an assistant at its limit does not count
// toward the assistants that a walk visits, nor a key at its limit toward the keys that
// are read. If the runs found are not enough, the claim looks at the next assistants. There is
// no more that is at a limit than running runs.

// pgKeysText lists up to 64 keys that have queued runs, for each assistant in $1, from
// a random key on and round to it. Keys at the limit $2 are skipped and do not count.
var pgKeysText = `
	WITH load AS MATERIALIZED (` + pgRunning("key_id") + `)
	SELECT s.assistant_id, k.key_id, coalesce(load.running, 0)
	FROM (SELECT * FROM json_to_recordset($1::json) AS s(assistant_id text) WHERE assistant_id || '' = assistant_id) s
	CROSS JOIN LATERAL (
		WITH RECURSIVE ends AS MATERIALIZED (
			SELECT
				(SELECT key_id FROM {queue} WHERE ` + pgOfAssistant + ` ORDER BY assistant_id, key_id, run_id LIMIT 1) AS first,
				(SELECT key_id FROM {queue} WHERE ` + pgOfAssistant + ` ORDER BY assistant_id DESC, key_id DESC, run_id DESC LIMIT 1) AS last
		),
		keys (key_id, start, lap, step, open) AS (
			SELECT start, start, 0, 0, 0 FROM (SELECT first - 1 + floor(random() * (last - first + 1))::bigint AS start FROM ends) s
			UNION ALL
			SELECT next.key_id, keys.start, next.lap, keys.step + 1, keys.open + 1
				- EXISTS (SELECT FROM load WHERE next.key_id <> 0 AND load.key_id = next.key_id AND load.running >= $2)::int
			FROM keys CROSS JOIN LATERAL (
				SELECT * FROM (
					(SELECT key_id, keys.lap AS lap FROM {queue} WHERE ` + pgQueuedByKey + `
						AND (assistant_id, key_id) > (s.assistant_id, keys.key_id) AND assistant_id <= s.assistant_id
						ORDER BY assistant_id, key_id, run_id LIMIT 1)
					UNION ALL
					(SELECT key_id, 1 FROM {queue} WHERE ` + pgOfAssistant + ` AND keys.lap = 0 ORDER BY assistant_id, key_id, run_id LIMIT 1)
				) following LIMIT 1
			) next
			WHERE keys.open < 64 AND NOT (next.lap = 1 AND next.key_id > keys.start)
		)
		SELECT DISTINCT key_id FROM keys WHERE step > 0
	) k
	LEFT JOIN load ON load.key_id = k.key_id
	WHERE k.key_id = 0 OR coalesce(load.running, 0) < $2`

const (
	pgOfAssistant = pgQueuedByKey + ` AND assistant_id >= s.assistant_id AND assistant_id <= s.assistant_id`

	// pgQueuedByKey names the index of queued runs by assistant and key.
	pgQueuedByKey = `state = 'q' AND native AND key_id >= 0`
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
// transaction, so that other claims do not wait. The plans of these statements do not
// depend on their arguments.
func (s *Store) lockLimits(ctx context.Context, on session) error {
	idle, lock := s.limits(ctx)
	rows, err := on.rows(ctx, `SELECT `+setLimits+`, set_config('plan_cache_mode', 'force_generic_plan', true),
		pg_advisory_xact_lock($3)::text`, idle, lock, s.lockNumber("limits"))
	return each(rows, err, func(scanner) error { return nil })
}

// pgClaimLimited claims within limits.
func (s *Store) pgClaimLimited(ctx context.Context, claim webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	var f *fairClaim
	err := again(ctx, func() error {
		return s.transact(ctx, func(on session) error {
			f = &fairClaim{store: s, on: on, claim: claim}
			if err := s.lockLimits(ctx, on); err != nil {
				return err
			}
			return f.run(ctx)
		})
	})
	if err != nil {
		return nil, err
	}
	return f.claimed, nil
}

// ofKeys divides the shares of assistants by key.
func (f *fairClaim) ofKeys(ctx context.Context, shares []*candidate) (list []*candidate, _ error) {
	input, err := encode(shares)
	if err != nil {
		return nil, err
	}
	of := make(map[string]*candidate, len(shares))
	for _, c := range shares {
		of[c.AssistantID] = c
	}
	rows, err := f.on.rows(ctx, pgKeysText, input, int64(f.claim.MaxPerKey))
	return collect(rows, err, func(row scanner) (*candidate, error) {
		var assistantID string
		c := &candidate{}
		var running int64
		if err := row.Scan(&assistantID, &c.KeyID, &running); err != nil {
			return nil, err
		}
		share := of[assistantID]
		c.AssistantID, c.Running, c.Runs = assistantID, share.Running, share.Runs
		if c.KeyID != 0 {
			c.Runs = min(c.Runs, int64(f.claim.MaxPerKey)-running)
		}
		return c, nil
	})
}
