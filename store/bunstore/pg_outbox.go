package bunstore

import (
	"context"
	"strconv"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// pgLeaseText leases the deliveries in $1, in that order, and reads what it takes to
// make them. It skips deliveries that another process has locked or leased meanwhile.
// It also skips those whose results would make more than maxLeased bytes, except for the
// first: they are neither leased nor read. $2 is the lease in microseconds, and $3 the
// token of the first.
var pgLeaseText = `
	WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
	picked AS MATERIALIZED (
		SELECT id, turn FROM unnest($1::bigint[]) WITH ORDINALITY AS p(id, turn) WHERE id + 0 = id
	),
	locked AS MATERIALIZED (
		SELECT d.id, p.turn, coalesce((SELECT octet_length(result) FROM {ends} WHERE run_id = d.run_id LIMIT 1), 0) AS bytes
		FROM (SELECT * FROM picked ORDER BY id) p CROSS JOIN LATERAL (
			SELECT id, run_id FROM {deliveries} WHERE id = p.id AND state || '' = 'pending'
				AND (leased_until IS NULL OR leased_until <= (SELECT now FROM clock))
			LIMIT 1 FOR UPDATE SKIP LOCKED
		) d
	),
	placed AS MATERIALIZED (
		SELECT id, row_number() OVER (ORDER BY turn) - 1 AS place, sum(bytes) OVER (ORDER BY turn) AS bytes FROM locked
	),
	d AS (
		UPDATE {deliveries} d SET token = $3::bigint + placed.place,
			leased_until = (SELECT now FROM clock) + $2::bigint * interval '1 microsecond'
		FROM placed WHERE (placed.place = 0 OR placed.bytes <= ` + strconv.Itoa(maxLeased) + `)
			AND d.id = ANY (ARRAY[placed.id]) AND placed.id + 0 = placed.id
		RETURNING d.*
	)
	SELECT ` + runColumns + `, d.token, ch.signing_secrets, (SELECT now FROM clock), ` + deliveryColumns + `
	FROM d CROSS JOIN LATERAL (SELECT * FROM {runs} WHERE id = d.run_id LIMIT 1) r` + pgRunParts + `
		LEFT JOIN LATERAL (SELECT * FROM {channels} WHERE assistant_id = r.assistant_id LIMIT 1) ch ON true
	ORDER BY d.token`

// maxLeased is how many bytes of results one lease reads, if it has more than one.
const maxLeased = 16 << 20

// pgLeaseDeliveries is LeaseDeliveries on Postgres: it looks, picks and leases. If
// others have leased all that was picked, it looks again.
func (s *Store) pgLeaseDeliveries(ctx context.Context, claim webtrigger.DeliveryQuery) (leased []webtrigger.LeasedDelivery, _ error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	for range 3 {
		due, err := s.pgDue(ctx, claim)
		if err != nil {
			return nil, s.wrap("lease deliveries", err)
		}
		picked := inTurns(due, claim)
		if len(picked) == 0 {
			return nil, nil
		}
		err = again(ctx, func() error {
			rows, err := s.rows(ctx, pgLeaseText, s.idList(picked), micros(claim.Lease), claim.Token)
			leased = nil
			return each(rows, err, func(row scanner) (err error) {
				var o webtrigger.LeasedDelivery
				var d deliveryRow
				var now time.Time
				o.Run, err = scanRun(row, append([]any{&o.Lease.Token, secretList{&o.Secrets}, stamp{&now}}, d.dest()...)...)
				if err != nil {
					return s.passOver(ctx, err)
				}
				o.Delivery, o.Lease.DeliveryID, o.LeasedAt = d.read(), d.ID, now
				leased = append(leased, o)
				return nil
			})
		})
		if err != nil || len(leased) > 0 {
			return leased, s.wrap("lease deliveries", err)
		}
	}
	return nil, nil
}

// pgBeginText claims deliveries for their POST, or repeats their claims; those whose lease is not held, and
// those that another transaction has locked, are missing in the answer.
const pgBeginText = `
	WITH held AS MATERIALIZED (
		SELECT i.ord, i.id, clock_timestamp() AS now
		FROM (SELECT * FROM json_to_recordset($1::json) AS i(ord int, id bigint, token bigint) ORDER BY id) i
		CROSS JOIN LATERAL (
			SELECT FROM {deliveries} WHERE id = i.id AND token = i.token AND state IN ('pending', 'sending') AND leased_until > clock_timestamp()
			LIMIT 1 FOR UPDATE SKIP LOCKED
		) d
	)
	UPDATE {deliveries} d SET state = 'sending', attempted_at = coalesce(d.attempted_at, held.now),
		leased_until = CASE WHEN d.state = 'pending' THEN held.now + interval '10 s' ELSE d.leased_until END
	FROM held WHERE d.id = ANY (ARRAY[held.id]) AND held.id + 0 = held.id RETURNING held.ord`

// pgDelivery is a delivery in the input of a statement.
type pgDelivery struct {
	Ord     int    `json:"ord"`
	ID      int64  `json:"id"`
	Token   int64  `json:"token"`
	State   string `json:"state,omitempty"`
	Status  int    `json:"status"`
	Latency int64  `json:"latency"`
	Class   string `json:"class"`
	Error   string `json:"error"`
	Answer  string `json:"answer"`
	RetryIn int64  `json:"retry_in"`
}

// beginning is a claim in the batcher.
type beginning = call[webtrigger.DeliveryLease, struct{}]

// pgBegin claims a batch of deliveries.
func (s *Store) pgBegin(ctx context.Context, calls []*beginning) error {
	input := make([]pgDelivery, len(calls))
	for i, c := range calls {
		c.alone = true // unless the answer has it
		input[i] = pgDelivery{Ord: i, ID: c.arg.DeliveryID, Token: c.arg.Token}
	}
	return s.wrap("begin delivery", s.pgDeliveries(ctx, pgBeginText, input, func(ord int) { calls[ord].alone = false }))
}

// pgFinishDeliveryText records outcomes and adds the retries. Those that a lease
// does not allow, and those that another transaction has locked, are missing in the answer.
const pgFinishDeliveryText = `
	WITH held AS MATERIALIZED (
		SELECT i.*, clock_timestamp() AS now
		FROM (
			SELECT * FROM json_to_recordset($1::json) AS i(ord int, id bigint, token bigint, state text, status int, latency bigint,
				class text, error text, answer text, retry_in bigint) ORDER BY id
		) i
		CROSS JOIN LATERAL (
			SELECT FROM {deliveries} WHERE id = i.id AND token = i.token
				AND (state IN ('sending', 'unknown') OR state = 'pending' AND leased_until > clock_timestamp())
			LIMIT 1 FOR UPDATE SKIP LOCKED
		) d
	),
	ended AS (
		UPDATE {deliveries} d SET state = h.state, completed_at = h.now, http_status = h.status, latency_us = h.latency,
			error_class = h.class, error = h.error, response = h.answer
		FROM held h WHERE d.id = ANY (ARRAY[h.id]) AND h.id + 0 = h.id
		RETURNING h.ord, h.retry_in, d.run_id, d.assistant_id, d.host, d.retry, d.completed_at
	),
	retry AS (
		INSERT INTO {deliveries} (run_id, assistant_id, host, state, retry, created_at, due_at)
		SELECT run_id, assistant_id, host, 'pending', retry + 1, completed_at, completed_at + retry_in * interval '1 microsecond'
		FROM ended WHERE retry_in > 0
		ON CONFLICT DO NOTHING
	)
	SELECT ord FROM ended`

// delivered is the outcome of a delivery that its sender reports.
type delivered struct {
	lease webtrigger.DeliveryLease
	end   webtrigger.DeliveryOutcome
}

func weighDelivered(d delivered) int {
	return 256 + len(d.end.State) + len(d.end.FailureClass) + len(d.end.Response) + len(d.end.Error)
}

// pgFinishDeliveries records a batch of outcomes.
func (s *Store) pgFinishDeliveries(ctx context.Context, calls []*call[delivered, struct{}]) error {
	input := make([]pgDelivery, len(calls))
	for i, c := range calls {
		c.alone = true // unless the answer has it
		lease, end := c.arg.lease, c.arg.end
		input[i] = pgDelivery{
			Ord: i, ID: lease.DeliveryID, Token: lease.Token, State: string(end.State), Status: end.HTTPStatus,
			Latency: micros(end.Latency), Class: string(end.FailureClass), Error: end.Error, Answer: end.Response, RetryIn: micros(end.RetryIn),
		}
	}
	return s.wrap("finish delivery", s.pgDeliveries(ctx, pgFinishDeliveryText, input, func(ord int) { calls[ord].alone = false }))
}

// pgDeliveries runs a statement and calls done with the place of each delivery
// that it changed.
func (s *Store) pgDeliveries(ctx context.Context, text string, input []pgDelivery, done func(ord int)) error {
	argument, err := encode(input)
	if err != nil {
		return err
	}
	rows, err := s.rows(ctx, text, argument)
	return each(rows, err, func(row scanner) error {
		var ord int
		err := row.Scan(&ord)
		if err == nil {
			done(ord)
		}
		return err
	})
}
