package bunstore

import (
	"math"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// rankText picks from the deliveries of {due}, in turns by assistant, then by host, in
// the order of their turns. spot is the turn of a delivery within its assistant and
// host, turn and place are those within its assistant, and taken is that at its host:
// of all assistants, when they take turns. The numbers begin behind what is in
// progress. Arguments: the time, how many, how many to a host (0: no limit), what is
// known of hosts, how many of those for assistants without any, how many to an
// assistant while others wait, and otherwise, what is known of assistants.
const rankText = `
	SELECT id FROM (
		SELECT id, place, row_number() OVER (ORDER BY place, due_at, id) AS nth FROM (
			SELECT *, min(beyond) OVER () AS one, max(beyond) OVER () AS other FROM (
				SELECT *, CASE WHEN place > $6 THEN assistant_id END AS beyond FROM (
					SELECT id, due_at, assistant_id, busy + row_number() OVER (PARTITION BY assistant_id ORDER BY spot, due_at, id) AS place FROM (
						SELECT *, held + row_number() OVER (PARTITION BY host ORDER BY turn, due_at, id) AS taken FROM (
							SELECT *, busy + row_number() OVER (PARTITION BY assistant_id ORDER BY spot, due_at, id) AS turn FROM (
								SELECT d.id, d.due_at, d.assistant_id, d.host, coalesce(k.busy, 0) AS held, coalesce(a.busy, 0) AS busy,
									coalesce(k.busy, 0) + row_number() OVER (PARTITION BY d.assistant_id, d.host ORDER BY d.due_at, d.id) AS spot
								FROM {due} d LEFT JOIN {hosts} k ON k.name = d.host LEFT JOIN {assistants} a ON a.name = d.assistant_id
								WHERE d.retry = 0 OR k.resting IS NULL OR NOT k.resting
							) d WHERE $3 = 0 OR spot <= $3
						) d
					) d WHERE $3 = 0 OR taken <= $3
				) d
			) d
		) d WHERE place <= $6 OR place <= $7 AND one = other
	) d WHERE place = 1 OR nth <= CAST($2 AS bigint) - CAST($5 AS bigint)
	ORDER BY nth LIMIT $2`

// sqliteDueText ranks all that is due. Its last argument is the time in which leases
// count. No lease lasts a day: one that seems to was stored by an earlier process, by
// another wall clock.
var sqliteDueText = rank(
	`(
		SELECT * FROM {deliveries} WHERE state = 'pending' AND due_at <= $1
			AND (leased_until IS NULL OR leased_until NOT BETWEEN $9 + 1 AND $9 + 86400000000)
	)`,
	`(SELECT value ->> 'name' AS name, value ->> 'busy' AS busy, value ->> 'resting' AS resting FROM json_each($4))`,
	`(SELECT value ->> 'name' AS name, value ->> 'busy' AS busy FROM json_each($8))`)

// pgDueText ranks the oldest that is due. If there is more, it also looks at some of
// the assistants, from a random one on, and at some hosts of each, from a random one
// on: a few deliveries of each. What is not due, or not of these, costs nothing.
//
// A walk goes from one hash to the next. lap counts how often it continued from the
// lowest. The walk ends where it began, or after a number of steps.
var pgDueText = bounded(`WITH RECURSIVE known_hosts AS MATERIALIZED (
		SELECT * FROM json_to_recordset($4::json) AS k(name text, busy int, resting boolean)
	),
	known_assistants AS MATERIALIZED (
		SELECT * FROM json_to_recordset($8::json) AS k(name text, busy int)
	),
	oldest AS MATERIALIZED (
		SELECT id, due_at, assistant_id, host, retry FROM {deliveries} WHERE state = 'pending' AND due_at <= $1 AND {free}
		ORDER BY due_at, id LIMIT {window}
	),
	start AS MATERIALIZED (
		SELECT floor(random() * 4294967296)::bigint - 2147483648 AS at FROM (SELECT count(*) AS n FROM oldest) o WHERE o.n >= {window}
	),
	walk(at, due, lap, steps, found) AS (
		SELECT at, false, 0, 0, 0 FROM start
		UNION ALL
		SELECT coalesce(n.at, -2147483649), coalesce(n.due, false), w.lap + (n.at IS NULL)::int, w.steps + 1, w.found + coalesce(n.due, false)::int
		FROM walk w LEFT JOIN LATERAL (
			SELECT hashtext(d.assistant_id)::bigint AS at,
				d.due_at <= $1 AND coalesce((SELECT busy FROM known_assistants WHERE name = d.assistant_id LIMIT 1), 0) < $7 AS due
			FROM {deliveries} d WHERE d.state = 'pending' AND hashtext(d.assistant_id) > w.at
			ORDER BY hashtext(d.assistant_id), d.due_at, d.id LIMIT 1
		) n ON true
		WHERE w.steps < {steps} AND w.found < 2 * CAST($2 AS bigint) AND (w.lap = 0 OR w.lap = 1 AND w.at <= (SELECT at FROM start))
	),
	seats AS MATERIALIZED (
		SELECT at, count(*) OVER () AS n FROM (SELECT DISTINCT at FROM walk WHERE due) w
	),
	hosts(at, host, start, lap, steps) AS (
		SELECT at, s.start, s.start, 0, {hosts} / n
		FROM (SELECT at, n, floor(random() * 8589934592)::bigint - 4294967296 AS start FROM seats) s
		UNION ALL
		SELECT h.at, coalesce(n.host, -4294967297), h.start, h.lap + (n.host IS NULL)::int, h.steps - 1
		FROM hosts h LEFT JOIN LATERAL (
			SELECT {host} AS host FROM {deliveries} d WHERE d.state = 'pending' AND hashtext(d.assistant_id) = h.at AND {host} > h.host
			ORDER BY {host}, d.due_at, d.id LIMIT 1
		) n ON true
		WHERE h.steps > -4 AND (h.lap = 0 OR h.lap = 1 AND h.host <= h.start)
	),
	due AS MATERIALIZED (
		SELECT * FROM oldest
		UNION
		SELECT d.* FROM seats CROSS JOIN LATERAL (
			SELECT id, due_at, assistant_id, host, retry FROM {deliveries}
			WHERE state = 'pending' AND hashtext(assistant_id) = seats.at AND due_at <= $1 AND {free}
			ORDER BY due_at, id LIMIT 4 + 2 * CAST($2 AS bigint) / seats.n
		) d
		UNION
		SELECT d.* FROM (SELECT DISTINCT at, host FROM hosts) h CROSS JOIN LATERAL (
			SELECT id, due_at, assistant_id, host, retry FROM {deliveries} d
			WHERE state = 'pending' AND hashtext(assistant_id) = h.at AND {host} = h.host AND due_at <= $1 AND {free}
			ORDER BY due_at, id LIMIT 4
		) d
	)` + rank("due", "known_hosts", "known_assistants"))

// bounded fills in what limits the look of pgDueText.
func bounded(text string) string {
	return strings.NewReplacer(
		"{free}", "(leased_until IS NULL OR leased_until <= $1)",
		"{host}", "(hashtext(d.host)::bigint * 2 + (d.retry > 0)::integer)",
		"{window}", "greatest(64, 2 * CAST($2 AS bigint))",
		"{steps}", "greatest(256, 4 * CAST($2 AS bigint))",
		"{hosts}", "64",
	).Replace(text)
}

func rank(due, hosts, assistants string) string {
	return strings.NewReplacer("{due}", due, "{hosts}", hosts, "{assistants}", assistants).Replace(rankText)
}

// inProgress is a claim's state of a host or an assistant.
type inProgress struct {
	Name    string `json:"name"`
	Busy    int    `json:"busy"`
	Resting bool   `json:"resting,omitempty"`
}

// turnInput is the arguments of rankText from the second on.
func turnInput(claim webtrigger.DeliveryQuery) []any {
	var hosts, assistants []inProgress
	resting := make(map[string]bool, len(claim.Resting))
	for _, host := range claim.Resting {
		if !resting[host] {
			resting[host] = true
			hosts = append(hosts, inProgress{host, claim.Busy[host], true})
		}
	}
	for host, n := range claim.Busy {
		if !resting[host] {
			hosts = append(hosts, inProgress{host, n, false})
		}
	}
	for assistant, n := range claim.BusyAssistants {
		assistants = append(assistants, inProgress{assistant, n, false})
	}
	hostInput, _ := encode(hosts) // texts and numbers: cannot fail
	assistantInput, _ := encode(assistants)
	share := claim.PerAssistant
	if share <= 0 {
		share = math.MaxInt32
	}
	return []any{claim.Limit, claim.PerHost, hostInput, claim.Reserved, share, max(share, claim.Alone), assistantInput}
}
