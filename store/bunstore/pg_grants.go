package bunstore

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/webtrigger-go/webtrigger"
)

// The statements that read what requests may see. Those whose key is not valid are
// missing in the answer.
var (
	// pgKeyGrantsText is for requests that name no trigger.
	pgKeyGrantsText = `SELECT i.ord, ` + keyGrantColumns + pgKeys

	pgGrantsText = `SELECT i.ord, ` + grantColumns + pgKeys + `
		LEFT JOIN LATERAL (
			SELECT * FROM {runs} WHERE id = coalesce(i.run, (SELECT first_run_id FROM {conversations} WHERE id = i.id), i.id)
				AND conversation_id = i.id AND assistant_id = k.assistant_id LIMIT 1
		) r ON true` + pgRunParts
)

// pgKeys are the valid keys of requests, and the channels of their assistants.
const pgKeys = `
	FROM json_to_recordset($1::json) AS i(ord int, hash text, id bigint, run bigint)
	CROSS JOIN LATERAL (
		SELECT * FROM {api_keys} WHERE hash = decode(i.hash, 'hex') AND revoked_at IS NULL
			AND (expires_at IS NULL OR expires_at > clock_timestamp()) LIMIT 1
	) k
	LEFT JOIN LATERAL (SELECT * FROM {channels} WHERE assistant_id = k.assistant_id LIMIT 1) ch ON true`

// pgAsking is a request in the input of the statements.
type pgAsking struct {
	Ord  int    `json:"ord"`
	Hash string `json:"hash"`
	ID   int64  `json:"id,omitempty"`
	Run  int64  `json:"run,omitempty"`
}

// pgGrants reads what a batch of requests may see. Requests that ask the same are
// one row.
func (s *Store) pgGrants(ctx context.Context, text string, calls []*call[asking, webtrigger.Grant]) error {
	ords := make(map[asking]int, len(calls))
	askings := make([]pgAsking, 0, len(calls))
	same := make([][]*call[asking, webtrigger.Grant], 0, len(calls))
	for _, c := range calls {
		c.err = webtrigger.ErrNotFound // unless the answer has it
		ord, known := ords[c.arg]
		if !known {
			ord = len(askings)
			ords[c.arg] = ord
			askings = append(askings, pgAsking{ord, hex.EncodeToString(c.arg.hash[:]), c.arg.triggerID, c.arg.runID})
			same = append(same, nil)
		}
		same[ord] = append(same[ord], c)
	}
	input, err := encode(askings)
	if err != nil {
		return err
	}
	rows, err := s.rows(ctx, text, input)
	return s.wrap("authenticate", each(rows, err, func(row scanner) error {
		var ord int
		var x grantRow
		if text == pgGrantsText {
			x.run = &runRow{summary: true}
		}
		if err := row.Scan(append([]any{&ord}, x.dest()...)...); err != nil {
			return err
		}
		grant, err := x.read()
		for _, c := range same[ord] {
			c.result, c.err = grant, s.wrap("authenticate", err)
			c.result.Key.Scopes = slices.Clone(grant.Key.Scopes)
			if grant.Run != nil { // each caller owns its answer
				run := *grant.Run
				if run.Usage != nil {
					usage := *run.Usage
					run.Usage = &usage
				}
				c.result.Run = &run
			}
		}
		return nil
	}))
}
