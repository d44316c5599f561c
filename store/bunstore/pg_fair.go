package bunstore

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Claims in turns on Postgres. If all queued runs are of one assistant, one statement
// claims the oldest of them (pgClaimSole). Otherwise a claim has these steps:
//
//	head   the assistants of the oldest queued runs, and how many runs each has running
//	walk   up to 32 more assistants, if the head perhaps misses those whose turn it is
//	share  in Go: whose turn it is, and how many runs of each are candidates
//	claim  the candidates, read and locked in their turns (pgClaimSharesText)
//
// No step reads the whole queue. The turns are exact if the head is the whole queue, or
// has enough assistants without running runs, or if there are at most 32 assistants.
// With more, each walk of a store continues where its last one ended, so that all
// assistants come to their turn.

const (
	walked   = 32 // assistants that one walk visits
	spare    = 8  // candidates, and their assistants, beyond the limit of a claim: some may be locked
	soleRest = time.Second
)

// candidate is an assistant with queued runs.
type candidate struct {
	AssistantID string `json:"assistant_id"`
	KeyID       int64  `json:"key_id"`  // of a share within a limit for keys
	Running     int64  `json:"running"` // running runs of the assistant
	Runs        int64  `json:"runs"`    // of its queued runs that are in the head; in a share, that are candidates
	oldest      int64  // queued run
}

// pgHead lists the assistants of the oldest queued runs. The number of runs is in the
// text, because with a LIMIT that it does not know, Postgres would make a new plan each time.
func pgHead(runs string) string {
	return strings.ReplaceAll(`
	SELECT h.assistant_id, coalesce(r.running, 0), h.runs, h.oldest
	FROM (
		SELECT assistant_id, count(*) AS runs, min(run_id) AS oldest FROM (
			(SELECT run_id, assistant_id FROM {queue} WHERE state = 'q' AND native AND NOT shared AND run_id > (SELECT 0) ORDER BY run_id LIMIT {window})
			UNION ALL
			(SELECT run_id, assistant_id FROM {queue} WHERE state = 'q' AND native AND shared AND run_id > (SELECT 0) ORDER BY run_id LIMIT {window})
			ORDER BY run_id LIMIT {window}
		) u GROUP BY assistant_id
	) h LEFT JOIN (`+pgRunning("assistant_id")+`) r ON r.assistant_id = h.assistant_id`, "{window}", runs)
}

var pgShortHeadText, pgLongHeadText = pgHead("128"), pgHead("1024")

// pgRunning counts the running runs. It reads the index of running runs, because of the
// conditions on process_id.
func pgRunning(by string) string {
	return `SELECT ` + by + `, count(*) AS running FROM (
			SELECT assistant_id, key_id FROM {queue} WHERE state = 'r' AND process_id >= ''
			UNION ALL
			SELECT assistant_id, key_id FROM {queue} WHERE state = 'r' AND process_id IS NULL
		) r GROUP BY ` + by
}

// pgQueued names the index of queued runs by assistant.
const pgQueued = `state = 'q' AND native AND run_id > 0`

// pgWalkText visits assistants with queued runs in order, from the one after $1 on, up
// to $2 ("": to the end). It reads one index entry for each. Those with $3 running runs
// do not count toward the 32, so that they hide no others.
var pgWalkText = `
	WITH RECURSIVE load AS MATERIALIZED (` + pgRunning("assistant_id") + `),
	walk (assistant_id, oldest, step, open) AS (
		SELECT $1::text COLLATE "C", 0::bigint, 0, 0
		UNION ALL
		SELECT next.assistant_id, next.run_id, walk.step + 1, walk.open + 1
			- EXISTS (SELECT FROM load WHERE load.assistant_id = next.assistant_id AND load.running >= $3)::int
		FROM walk CROSS JOIN LATERAL (
			SELECT assistant_id, run_id FROM {queue} WHERE ` + pgQueued + ` AND assistant_id > walk.assistant_id
			ORDER BY assistant_id, run_id LIMIT 1
		) next
		WHERE walk.open < 32 AND ($2 = '' OR next.assistant_id <= $2)
	)
	SELECT w.assistant_id, coalesce(load.running, 0), 0, w.oldest FROM walk w LEFT JOIN load ON load.assistant_id = w.assistant_id
	WHERE w.step > 0 ORDER BY w.step`

// turns is what a store remembers between its claims.
type turns struct {
	mu    sync.Mutex
	last  string    // the last assistant that a walk has visited
	mixed time.Time // when a claim has last seen runs of several assistants
}

func (t *turns) get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

func (t *turns) set(last string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = last
}

func (t *turns) sawSeveral() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mixed = time.Now()
}

// several reports whether a claim has lately seen runs of several assistants.
func (t *turns) several() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.mixed) < soleRest
}

// pgClaimInTurn claims without limits of running runs.
func (s *Store) pgClaimInTurn(ctx context.Context, claim webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	if !s.turns.several() {
		text := pgClaimManyText
		if claim.Limit <= 16 {
			text = pgClaimFewText
		}
		claimed, mixed, err := s.pgClaimStatement(ctx, s.pool(), text, int64(claim.Limit), claim.Token, claim.ProcessID)
		if err != nil || !mixed {
			return claimed, err
		}
		s.turns.sawSeveral()
	}
	f := &fairClaim{store: s, on: s.pool(), claim: claim}
	err := f.run(ctx)
	if err != nil || f.missing() == 0 || f.whole && f.queued <= len(f.claimed) {
		return f.claimed, err // if there is an error, heartbeats return the claims
	}
	// Other transactions have locked the candidates. Claim the oldest runs that are free.
	more, _, err := s.pgClaimStatement(ctx, s.pool(), pgClaimOldestText, f.args()...)
	return append(f.claimed, more...), err
}

// fairClaim is a claim in turns that is in progress.
type fairClaim struct {
	store   *Store
	on      session
	claim   webtrigger.Claim
	claimed []webtrigger.ClaimedRun

	queued   int  // runs in the head
	whole    bool // the head is the whole queue
	complete bool // the candidates are all assistants with queued runs
}

// missing is how many runs more the claim may have.
func (f *fairClaim) missing() int { return f.claim.Limit - len(f.claimed) }

// args are the arguments of a statement that claims what is missing.
func (f *fairClaim) args(more ...any) []any {
	return append([]any{int64(f.missing()), f.claim.Token + int64(len(f.claimed)), f.claim.ProcessID,
		string(webtrigger.EventRunStarted), f.store.started.before, f.store.started.after}, more...)
}

// run claims in rounds. There is a further one if the candidates had fewer runs than
// were expected, or, within limits, if others may have some.
func (f *fairClaim) run(ctx context.Context) error {
	const rounds = 100
	start, lapped := f.store.turns.get(), false
	for range rounds {
		before, at := len(f.claimed), f.store.turns.get()
		candidates, err := f.candidates(ctx)
		if err != nil {
			return err
		}
		if err := f.claimOf(ctx, candidates); err != nil || f.missing() == 0 || f.whole {
			return err
		}
		if len(f.claimed) > before {
			continue
		}
		last := f.store.turns.get()
		lapped = lapped || last <= at
		if !limited(f.claim) || f.complete || lapped && last >= start {
			return nil // the candidates are locked, or all assistants at their limits
		}
	}
	return nil
}

// candidates lists assistants that may have running runs more, by their turns.
func (f *fairClaim) candidates(ctx context.Context) ([]*candidate, error) {
	text, window := pgShortHeadText, 128
	if f.missing() > 64 {
		text, window = pgLongHeadText, 1024
	}
	list, err := f.read(ctx, text)
	if err != nil {
		return nil, err
	}
	most := limitOr(f.claim.MaxPerAssistant)
	idle, known := 0, make(map[string]bool)
	f.queued = 0
	for _, c := range list {
		f.queued += int(c.Runs)
		known[c.AssistantID] = true
		if c.Running == 0 {
			idle++
		}
	}
	f.whole = f.queued < window
	f.complete = f.whole
	if !f.whole {
		for _, c := range list {
			c.Runs = int64(f.claim.Limit) // it may have more than those in the head
		}
		if f.claim.MaxPerKey > 0 || idle < f.missing()+spare {
			more, err := f.walk(ctx, most)
			if err != nil {
				return nil, err
			}
			for _, c := range more {
				if !known[c.AssistantID] {
					c.Runs = int64(f.claim.Limit)
					list = append(list, c)
				}
			}
		}
	}
	list = slices.DeleteFunc(list, func(c *candidate) bool { return c.Running >= most })
	slices.SortFunc(list, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(a.Running, b.Running), cmp.Compare(a.oldest, b.oldest))
	})
	return list, nil
}

// walk visits the next assistants in order, round to the first ones.
func (f *fairClaim) walk(ctx context.Context, most int64) ([]*candidate, error) {
	start := f.store.turns.get()
	list, err := f.read(ctx, pgWalkText, start, "", most)
	if err != nil {
		return nil, err
	}
	if open(list, most) < walked && start != "" {
		more, err := f.read(ctx, pgWalkText, "", start, most)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	last := ""
	if f.complete = open(list, most) < walked; !f.complete {
		last = list[len(list)-1].AssistantID
	}
	f.store.turns.set(last)
	return list, nil
}

// open counts the candidates below a limit of running runs.
func open(list []*candidate, most int64) (n int) {
	for _, c := range list {
		if c.Running < most {
			n++
		}
	}
	return n
}

func (f *fairClaim) read(ctx context.Context, text string, args ...any) ([]*candidate, error) {
	rows, err := f.on.rows(ctx, text, args...)
	return collect(rows, err, func(row scanner) (*candidate, error) {
		c := &candidate{}
		return c, row.Scan(&c.AssistantID, &c.Running, &c.Runs, &c.oldest)
	})
}

// claimOf claims runs of candidates, the first ones first. An empty list still checks
// the process.
func (f *fairClaim) claimOf(ctx context.Context, candidates []*candidate) error {
	for first := true; first || len(candidates) > 0 && f.missing() > 0; first = false {
		n := f.missing() + spare
		if !first {
			n = max(n, 64)
		}
		n = min(n, len(candidates))
		part := shared(candidates[:n], int64(f.missing()+spare), limitOr(f.claim.MaxPerAssistant))
		candidates = candidates[n:]
		text := pgClaimSharesText
		if f.claim.MaxPerKey > 0 {
			var err error
			if part, err = f.ofKeys(ctx, part); err != nil {
				return err
			}
			text = pgClaimKeySharesText
		}
		input, err := encode(part)
		if err != nil {
			return err
		}
		more, _, err := f.store.pgClaimStatement(ctx, f.on, text, f.args(input, limitOr(f.claim.MaxPerAssistant))...)
		if err != nil {
			return err
		}
		f.claimed = append(f.claimed, more...)
	}
	return nil
}

// shared gives each candidate as many runs as bring all of them to the same number of
// running runs: the lowest number at which they have the wanted runs together.
func shared(list []*candidate, wanted, most int64) []*candidate {
	top := most
	if n := len(list); n > 0 {
		top = min(most, list[n-1].Running+wanted)
	}
	runs := func(c *candidate, level int64) int64 { return min(c.Runs, max(level-c.Running, 0)) }
	level := int64(sort.Search(int(top), func(level int) bool {
		var n int64
		for _, c := range list {
			n += runs(c, int64(level))
		}
		return n >= wanted
	}))
	for _, c := range list {
		c.Runs = max(runs(c, level), 1)
	}
	return list
}
