package bunstore

import (
	"context"
	"strconv"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// asking is a request with a key.
type asking struct {
	hash      webtrigger.KeyHash
	triggerID int64 // 0: the request names no trigger
	runID     int64 // 0: the first run
}

// Authenticate implements [webtrigger.KeyStore]. Requests that come together share a
// read. Those that name no trigger do not wait for those that do: their read is short.
func (s *Store) Authenticate(ctx context.Context, hash webtrigger.KeyHash, triggerID, runID int64) (webtrigger.Grant, error) {
	if triggerID == 0 {
		return s.keys.do(ctx, asking{hash: hash})
	}
	return s.grants.do(ctx, asking{hash, triggerID, runID})
}

// runKeys reads the keys of a batch of requests that name no trigger.
func (s *Store) runKeys(ctx context.Context, calls []*call[asking, webtrigger.Grant]) error {
	if s.postgres {
		return s.pgGrants(ctx, pgKeyGrantsText, calls)
	}
	return s.eachGrant(ctx, calls)
}

// runGrants reads what a batch of requests may see.
func (s *Store) runGrants(ctx context.Context, calls []*call[asking, webtrigger.Grant]) error {
	if s.postgres {
		return s.pgGrants(ctx, pgGrantsText, calls)
	}
	return s.eachGrant(ctx, calls)
}

func (s *Store) eachGrant(ctx context.Context, calls []*call[asking, webtrigger.Grant]) error {
	now := s.now()
	for _, c := range calls {
		grant, err := s.grant(ctx, c.arg, now)
		if c.result, c.err = grant, s.wrap("authenticate", err); c.err != nil && !decided(c.err) {
			return err
		}
	}
	return nil
}

// keyGrantColumns are what grantRow reads: k is the key, ch its assistant's channel or NULLs.
const keyGrantColumns = `k.id, k.assistant_id, k.name, k.prefix, k.created_at, k.expires_at, k.revoked_at, k.last_used_at, k.scopes,
		coalesce(ch.enabled, false), coalesce(ch.allow_callback_urls, false)`

// grantColumns are keyGrantColumns and the run, which is that of [summaryColumns] or NULLs,
// with its result if that is small. The size of a result is known without its text,
// which may be stored apart.
var grantColumns = keyGrantColumns + `, coalesce(octet_length(e.result) > ` + grantResult + `, false), ` +
	stateColumns + `, substr(r.task, 1, 64), CASE WHEN octet_length(e.result) <= ` + grantResult + ` THEN e.result END`

var grantResult = strconv.Itoa(webtrigger.MaxGrantResultBytes)

// grantRow is a row of keyGrantColumns or grantColumns while it is read.
type grantRow struct {
	grant webtrigger.Grant
	run   *runRow // nil: of keyGrantColumns
}

func (x *grantRow) dest() []any {
	dest := append(keyDest(&x.grant.Key), &x.grant.Channel.Enabled, &x.grant.Channel.AllowCallbackURLs)
	if x.run == nil {
		return dest
	}
	return append(append(dest, &x.grant.ResultOmitted), x.run.dest()...)
}

func (x *grantRow) read() (_ webtrigger.Grant, err error) {
	x.grant.Channel.AssistantID = x.grant.Key.AssistantID
	if x.run != nil {
		x.grant.Run, err = x.run.read()
	}
	return x.grant, err
}

// grant reads what one request may see.
func (s *Store) grant(ctx context.Context, ask asking, now time.Time) (webtrigger.Grant, error) {
	x := grantRow{run: &runRow{summary: true}}
	err := s.row(ctx, `SELECT `+grantColumns+` FROM {api_keys} k
		LEFT JOIN {channels} ch ON ch.assistant_id = k.assistant_id
		LEFT JOIN {runs} r ON r.id = CASE WHEN $4 > 0 THEN $4 ELSE coalesce((SELECT first_run_id FROM {conversations} WHERE id = $2), $2) END
			AND r.conversation_id = $2 AND r.assistant_id = k.assistant_id
		`+runParts+`
		WHERE k.hash = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $3)`,
		ask.hash[:], ask.triggerID, s.at(now), ask.runID).Scan(x.dest()...)
	if err != nil {
		return webtrigger.Grant{}, err
	}
	return x.read()
}
