package bunstore

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// dueDelivery is a delivery that a lease may have, with its place in the turns.
type dueDelivery struct {
	id          int64
	assistantID string
	host        string
	retry       bool

	age   int // place by due time
	spot  int // within its assistant and host
	turn  int // within its assistant
	taken int // at its host, of all assistants
}

// scanDue reads dueColumns.
func scanDue(row scanner) (*dueDelivery, error) {
	d, retry := &dueDelivery{}, 0
	err := row.Scan(&d.id, &d.assistantID, &d.host, &retry)
	d.retry = retry > 0
	return d, err
}

const dueColumns = `id, assistant_id, host, retry`

// inTurns picks from deliveries that are sorted by due time: in turns by assistant,
// then by host. All numbers begin behind what is in progress.
func inTurns(due []*dueDelivery, claim webtrigger.DeliveryQuery) []int64 {
	most := func(n int) int { // 0: no limit
		if n <= 0 {
			return math.MaxInt
		}
		return n
	}
	keep := func(may func(d *dueDelivery) bool) {
		due = slices.DeleteFunc(due, func(d *dueDelivery) bool { return !may(d) })
	}
	sorted := func(by func(d *dueDelivery) int) {
		slices.SortFunc(due, func(a, b *dueDelivery) int { return cmp.Or(cmp.Compare(by(a), by(b)), cmp.Compare(a.age, b.age)) })
	}
	spot, turn := func(d *dueDelivery) int { return d.spot }, func(d *dueDelivery) int { return d.turn }
	counted := func() { // the turns of each assistant
		sorted(spot)
		number(due, func(d *dueDelivery) (string, int) { return d.assistantID, claim.BusyAssistants[d.assistantID] },
			func(d *dueDelivery, n int) { d.turn = n })
	}
	for i, d := range due {
		d.age = i
	}
	keep(func(d *dueDelivery) bool { return !d.retry || !slices.Contains(claim.Resting, d.host) })
	number(due, func(d *dueDelivery) ([2]string, int) { return [2]string{d.assistantID, d.host}, claim.Busy[d.host] },
		func(d *dueDelivery, n int) { d.spot = n })
	keep(func(d *dueDelivery) bool { return d.spot <= most(claim.PerHost) })
	counted()
	sorted(turn)
	number(due, func(d *dueDelivery) (string, int) { return d.host, claim.Busy[d.host] }, func(d *dueDelivery, n int) { d.taken = n })
	keep(func(d *dueDelivery) bool { return d.taken <= most(claim.PerHost) })
	counted()
	sorted(turn)

	share, beyond := most(claim.PerAssistant), make(map[string]bool)
	for _, d := range due {
		if d.turn > share {
			beyond[d.assistantID] = true
		}
	}
	if len(beyond) == 1 { // no other waits
		share = max(share, claim.Alone)
	}
	keep(func(d *dueDelivery) bool { return d.turn <= share })
	var picked []int64
	for i, d := range due {
		if len(picked) < claim.Limit && (d.turn == 1 || i < claim.Limit-claim.Reserved) {
			picked = append(picked, d.id)
		}
	}
	return picked
}

// number counts deliveries in their order, each kind on its own, from what is in
// progress on.
func number[K comparable](due []*dueDelivery, kind func(d *dueDelivery) (K, int), set func(d *dueDelivery, n int)) {
	last := make(map[K]int)
	for _, d := range due {
		k, busy := kind(d)
		n, counted := last[k]
		if !counted {
			n = busy
		}
		last[k] = n + 1
		set(d, n+1)
	}
}

// sqliteDueText reads all that is due. $2 is the time in which leases count. No lease
// lasts a day: one that seems to was stored by an earlier process, by another wall
// clock.
const sqliteDueText = `SELECT ` + dueColumns + ` FROM {deliveries} WHERE state = 'pending' AND due_at <= $1
	AND (leased_until IS NULL OR leased_until NOT BETWEEN $2 + 1 AND $2 + 86400000000) ORDER BY due_at, id`

// pgOldestDue reads the oldest that is due. The number is in the text: see pgHead.
func pgOldestDue(window string) string {
	return bounded(`SELECT `+dueColumns+` FROM {deliveries} WHERE state = 'pending' AND due_at <= {now} AND {free}
		ORDER BY due_at, id LIMIT `+window, "")
}

var pgFewDueText, pgManyDueText = pgOldestDue("64"), pgOldestDue("1024")

// pgWalkDueText also looks at some of the assistants, from a random one on, and at some
// hosts of each, from a random one on: a few deliveries of each. What is not due, or not
// of these, costs nothing. Arguments: how many deliveries are wanted, how many an assistant
// may have in progress, and the numbers in progress.
//
// A walk goes from one hash to the next. lap counts how often it continued from the
// lowest; it ends when it is back where it began, or after so many steps.
func pgWalkDue(window string) string {
	return bounded(`WITH RECURSIVE known AS MATERIALIZED (
		SELECT * FROM json_to_recordset($3::json) AS k(name text, busy int)
	),
	oldest AS MATERIALIZED (
		SELECT `+dueColumns+`, due_at FROM {deliveries} WHERE state = 'pending' AND due_at <= {now} AND {free}
		ORDER BY due_at, id LIMIT {window}
	),
	start AS MATERIALIZED (SELECT floor(random() * 4294967296)::bigint - 2147483648 AS at),
	walk(at, due, lap, steps, found) AS (
		SELECT at, false, 0, 0, 0 FROM start
		UNION ALL
		SELECT coalesce(n.at, -2147483649), coalesce(n.due, false), w.lap + (n.at IS NULL)::int, w.steps + 1, w.found + coalesce(n.due, false)::int
		FROM walk w LEFT JOIN LATERAL (
			SELECT hashtext(d.assistant_id)::bigint AS at,
				d.due_at <= {now} AND coalesce((SELECT busy FROM known WHERE name = d.assistant_id LIMIT 1), 0) < $2 AS due
			FROM {deliveries} d WHERE d.state = 'pending' AND hashtext(d.assistant_id) > w.at
			ORDER BY hashtext(d.assistant_id), d.due_at, d.id LIMIT 1
		) n ON true
		WHERE w.steps < greatest(256, 4 * CAST($1 AS bigint)) AND w.found < 2 * CAST($1 AS bigint)
			AND (w.lap = 0 OR w.lap = 1 AND w.at <= (SELECT at FROM start))
	),
	seats AS MATERIALIZED (
		SELECT at, count(*) OVER () AS n FROM (SELECT DISTINCT at FROM walk WHERE due) w
	),
	hosts(at, host, start, lap, steps) AS (
		SELECT at, s.start, s.start, 0, 64 / n
		FROM (SELECT at, n, floor(random() * 8589934592)::bigint - 4294967296 AS start FROM seats) s
		UNION ALL
		SELECT h.at, coalesce(n.host, -4294967297), h.start, h.lap + (n.host IS NULL)::int, h.steps - 1
		FROM hosts h LEFT JOIN LATERAL (
			SELECT {host} AS host FROM {deliveries} d WHERE d.state = 'pending' AND hashtext(d.assistant_id) = h.at AND {host} > h.host
			ORDER BY {host}, d.due_at, d.id LIMIT 1
		) n ON true
		WHERE h.steps > -4 AND (h.lap = 0 OR h.lap = 1 AND h.host <= h.start)
	)
	SELECT `+dueColumns+` FROM (
		SELECT * FROM oldest
		UNION
		SELECT d.* FROM seats CROSS JOIN LATERAL (
			SELECT `+dueColumns+`, due_at FROM {deliveries}
			WHERE state = 'pending' AND hashtext(assistant_id) = seats.at AND due_at <= {now} AND {free}
			ORDER BY due_at, id LIMIT 4 + 2 * CAST($1 AS bigint) / seats.n
		) d
		UNION
		SELECT d.* FROM (SELECT DISTINCT at, host FROM hosts) h CROSS JOIN LATERAL (
			SELECT `+dueColumns+`, due_at FROM {deliveries} d
			WHERE state = 'pending' AND hashtext(assistant_id) = h.at AND {host} = h.host AND due_at <= {now} AND {free}
			ORDER BY due_at, id LIMIT 4
		) d
	) due ORDER BY due_at, id`, window)
}

var pgWalkFewText, pgWalkManyText = pgWalkDue("64"), pgWalkDue("1024")

// bounded fills in the parts of these texts.
func bounded(text, window string) string {
	return strings.NewReplacer(
		"{free}", "(leased_until IS NULL OR leased_until <= (SELECT clock_timestamp()))",
		"{now}", "(SELECT clock_timestamp())",
		"{host}", "(hashtext(d.host)::bigint * 2 + (d.retry > 0)::integer)",
		"{window}", window,
	).Replace(text)
}

// pgDue lists deliveries that a lease may have, sorted by due time: the oldest ones. If
// there are more, also some of others.
func (s *Store) pgDue(ctx context.Context, claim webtrigger.DeliveryQuery) ([]*dueDelivery, error) {
	text, more, window := pgFewDueText, pgWalkFewText, 64
	if claim.Limit > 32 {
		text, more, window = pgManyDueText, pgWalkManyText, 1024
	}
	rows, err := s.rows(ctx, text)
	due, err := collect(rows, err, scanDue)
	if err != nil || len(due) < window {
		return due, err
	}
	var known []inProgress
	for assistant, n := range claim.BusyAssistants {
		known = append(known, inProgress{assistant, n})
	}
	input, err := encode(known)
	if err != nil {
		return nil, err
	}
	share := claim.PerAssistant
	if share <= 0 {
		share = math.MaxInt32
	}
	rows, err = s.rows(ctx, more, claim.Limit, max(share, claim.Alone), input)
	return collect(rows, err, scanDue)
}

// inProgress is how many deliveries of an assistant are in progress.
type inProgress struct {
	Name string `json:"name"`
	Busy int    `json:"busy"`
}
