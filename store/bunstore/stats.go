package bunstore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Statistics of past hours are kept in {stats}: for each hour, assistant, status and slot
// of durations the number of runs, and for each hour the same of all assistants, whose
// assistant_id is empty. A row with an empty status marks an hour that is counted. Each pass
// of purges counts the hours that are not, so that it deletes no runs that are not counted.
// So does a query, newest first. Both stop after statsTime. An index of blocks by completed_at
// finds the ends of an hour. The current hour and the last minutes are counted as they are.
const (
	statsChunk = 24              // hours that one transaction counts
	statsTime  = 2 * time.Second // after which a call leaves hours for the next one, or less in a purge
	statsLate  = 2 * time.Minute // after its end, an hour may still get ends: transactions take a while
)

// EndCounts implements [webtrigger.StatsStore].
func (s *Store) EndCounts(ctx context.Context, query webtrigger.StatsQuery) ([]webtrigger.EndCount, bool, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, false, err
	}
	defer cancel()
	now, err := (&tx{session: s.pool(), ctx: ctx, time: s.now()}).now()
	if err != nil {
		return nil, false, s.wrap("count ends", err)
	}
	from, to := hourOf(query.From), hourOf(query.To)
	from = min(max(from, hourOf(now.Add(-webtrigger.StatsAge))), to) // what the purge leaves
	closed := min(max(hourOf(now.Add(-statsLate)), from), to)        // the first hour that may get ends
	complete, err := s.countHours(ctx, from, closed)
	if err != nil {
		return nil, false, err
	}
	counts, err := s.keptCounts(ctx, query, from, closed)
	if err != nil || closed == to {
		return counts, complete, s.wrap("count ends", err)
	}
	open, err := s.openCounts(ctx, query, closed, to)
	return append(counts, open...), complete, s.wrap("count ends", err)
}

func hourOf(t time.Time) int64      { return t.Unix() / 3600 }
func hourTime(hour int64) time.Time { return time.Unix(hour*3600, 0).UTC() }

func scanEndCount(row scanner) (c webtrigger.EndCount, _ error) {
	return c, row.Scan(&c.Step, &c.Status, &c.Slot, &c.Runs)
}

// keptCounts reads the hours that are counted.
func (s *Store) keptCounts(ctx context.Context, query webtrigger.StatsQuery, from, to int64) ([]webtrigger.EndCount, error) {
	rows, err := s.rows(ctx, `SELECT (hour - $5) / $4, status, slot, CAST(sum(runs) AS bigint) FROM {stats}
		WHERE assistant_id = $1 AND hour >= $2 AND hour < $3 AND status <> '' GROUP BY 1, 2, 3`,
		query.AssistantID, from, to, int64(query.Step/webtrigger.StatsHour), hourOf(query.From))
	return collect(rows, err, scanEndCount)
}

// openCounts counts ends as they are.
func (s *Store) openCounts(ctx context.Context, query webtrigger.StatsQuery, from, to int64) ([]webtrigger.EndCount, error) {
	c := endedWithin(from, to, s)
	if query.AssistantID != "" {
		c.add("(SELECT r.assistant_id FROM {runs} r WHERE r.id = e.run_id) = $", query.AssistantID)
	}
	c.args = append(c.args, hourOf(query.From), int64(query.Step/webtrigger.StatsHour))
	return listed(ctx, s, fmt.Sprintf(`SELECT (hour - $%d) / $%d, status, slot, count(*) FROM (
		SELECT {hour} AS hour, e.status, %s AS slot FROM {ends} e WHERE %s) e GROUP BY 1, 2, 3`,
		len(c.args)-1, len(c.args), slotText, strings.Join(c.where, " AND ")), c.args, scanEndCount)
}

// endedWithin has the conditions of the ends e of some hours.
func endedWithin(from, to int64, s *Store) (c conditions) {
	c.add("e.completed_at >= $", s.at(hourTime(from)))
	c.add("e.completed_at < $", s.at(hourTime(to)))
	return c
}

// slotText is the slot of an end e.
var slotText = func() string {
	var text strings.Builder
	text.WriteString("CASE WHEN e.started_at IS NULL THEN -1")
	for slot := range webtrigger.DurationSlots - 1 {
		fmt.Fprintf(&text, " WHEN {took} < %d THEN %d", webtrigger.SlotEnd(slot).Microseconds(), slot)
	}
	fmt.Fprintf(&text, " ELSE %d END", webtrigger.DurationSlots-1)
	return text.String()
}()

// hours is a range of hours: from is the first one, and to follows the last one.
type hours struct{ from, to int64 }

// countHours counts the hours of a range that are not counted yet. It reports whether
// all of them are.
func (s *Store) countHours(ctx context.Context, from, to int64) (complete bool, _ error) {
	until := time.Now().Add(statsTime)
	first, found, err := s.firstHour(ctx)
	if err != nil || !found {
		return true, err
	}
	left, err := s.uncounted(ctx, hours{max(from, first), to}, statsChunk)
	if err != nil {
		return false, err
	}
	for _, chunk := range slices.Backward(left) {
		if time.Now().After(until) {
			return false, nil
		}
		if err := s.countChunk(ctx, chunk, true); err != nil {
			return false, err
		}
	}
	return true, nil
}

// countPast counts past hours since an instant, oldest first, an hour in each transaction.
// Hours that another call counts are left to it.
func (s *Store) countPast(ctx context.Context, since, now time.Time) error {
	until := time.Now().Add(statsTime)
	first, found, err := s.firstHour(ctx)
	if err != nil || !found {
		return err
	}
	left, err := s.uncounted(ctx, hours{max(first, hourOf(since)), hourOf(now.Add(-statsLate))}, 1)
	for _, chunk := range left {
		if time.Now().After(until) {
			break
		}
		if err := s.countChunk(ctx, chunk, false); err != nil {
			return err
		}
	}
	return err
}

// firstHour returns the hour of the oldest run. No hour before it has ends to count.
func (s *Store) firstHour(ctx context.Context) (hour int64, found bool, _ error) {
	var first time.Time
	err := s.pool().row(ctx, `SELECT created_at FROM {runs} ORDER BY id LIMIT 1`).Scan(stamp{&first})
	if err == sql.ErrNoRows {
		return 0, false, nil
	}
	return hourOf(first), err == nil, s.wrap("count ends", err)
}

// uncounted returns the hours of a range that are not counted, as ranges of up to most hours
// in their order.
func (s *Store) uncounted(ctx context.Context, all hours, most int64) (left []hours, _ error) {
	rows, err := s.rows(ctx, `SELECT hour FROM {stats} WHERE assistant_id = '' AND hour >= $1 AND hour < $2 AND status = ''`, all.from, all.to)
	counted, err := collect(rows, err, scanID)
	if err != nil {
		return nil, s.wrap("count ends", err)
	}
	done := make(map[int64]bool, len(counted))
	for _, hour := range counted {
		done[hour] = true
	}
	for hour := all.from; hour < all.to; hour++ {
		if done[hour] {
			continue
		}
		if last := len(left) - 1; last >= 0 && left[last].to == hour && hour-left[last].from < most {
			left[last].to++
		} else {
			left = append(left, hours{hour, hour + 1})
		}
	}
	return left, nil
}

// countChunk counts some hours and marks them. If another call does that for any hours, it
// waits or, if it must not, does nothing. Then it changes nothing for hours that are
// counted: the counts of a past hour do not change.
func (s *Store) countChunk(ctx context.Context, chunk hours, wait bool) error {
	return s.write(ctx, "count ends", func(t *tx) error {
		if free, err := t.lockStats(wait); err != nil || !free {
			return err
		}
		var marks []string
		for hour := chunk.from; hour < chunk.to; hour++ {
			marks = append(marks, fmt.Sprintf("('', %d, '', -1, 0)", hour))
		}
		const into = `INSERT INTO {stats} (assistant_id, hour, status, slot, runs) `
		if _, err := t.exec(t.ctx, into+`VALUES `+strings.Join(marks, ", ")+` ON CONFLICT DO NOTHING`); err != nil {
			return err
		}
		c := endedWithin(chunk.from, chunk.to, s)
		where := strings.Join(c.where, " AND ")
		for _, assistant := range []string{"''", "r.assistant_id"} {
			joined := ""
			if assistant != "''" {
				joined = " JOIN {runs} r ON r.id = e.run_id"
			}
			_, err := t.exec(t.ctx, into+`SELECT assistant, hour, status, slot, count(*) FROM (SELECT `+assistant+` AS assistant, {hour} AS hour, e.status, `+
				slotText+` AS slot FROM {ends} e`+joined+` WHERE `+where+`) e GROUP BY 1, 2, 3, 4 ON CONFLICT DO NOTHING`, c.args...)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// lockStats takes the lock of those who count. SQLite has one writer, and needs none.
func (t *tx) lockStats(wait bool) (free bool, err error) {
	if !t.store.postgres {
		return true, nil
	}
	lock := t.store.lockNumber("stats")
	if wait {
		_, err = t.exec(t.ctx, `SELECT pg_advisory_xact_lock($1)`, lock)
		return true, err
	}
	err = t.row(t.ctx, `SELECT pg_try_advisory_xact_lock($1)`, lock).Scan(&free)
	return free, err
}

// purgeStats deletes the oldest hours that are past their age, each in a transaction of its
// own, up to statsTime. It returns their number.
func (s *Store) purgeStats(ctx context.Context, purge webtrigger.Purge, now time.Time) (n int, _ error) {
	if purge.Stats == 0 {
		return 0, nil
	}
	until := time.Now().Add(statsTime)
	rows, err := s.rows(ctx, `SELECT hour FROM {stats} WHERE assistant_id = '' AND hour < $1 AND status = '' ORDER BY hour LIMIT $2`,
		hourOf(now.Add(-purge.Stats)), purge.Limit)
	hours, err := collect(rows, err, scanID)
	if err != nil {
		return 0, s.wrap("purge statistics", err)
	}
	for _, hour := range hours {
		deleted := 0 // by the last try of the transaction
		err := s.write(ctx, "purge statistics", func(t *tx) error {
			var marked int64
			err := t.row(t.ctx, `SELECT hour FROM {stats} WHERE assistant_id = '' AND hour = $1 AND status = '' {skip locked}`, hour).Scan(&marked)
			if err == sql.ErrNoRows {
				deleted = 0
				return nil // another process deletes it
			} else if err != nil {
				return err
			}
			_, err = t.exec(t.ctx, `DELETE FROM {stats} WHERE hour = $1`, hour)
			deleted = 1
			return err
		})
		if err != nil {
			return n, err
		}
		n += deleted
		if time.Now().After(until) {
			break
		}
	}
	return n, nil
}

// ErrorCounts implements [webtrigger.StatsStore].
func (s *Store) ErrorCounts(ctx context.Context, assistantID string, from time.Time, limit int) ([]webtrigger.ErrorCount, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	counts := make(map[string]webtrigger.ErrorCount)
	for _, status := range []string{"failed", "timed_out"} { // each from the end of its part of the index
		rows, err := s.unprepared().rows(ctx, `SELECT e.run_id, CASE WHEN e.error_message <> '' THEN e.error_message ELSE e.status_detail END
			FROM (SELECT * FROM {ends} WHERE status = '`+status+`' AND status <> 'completed' ORDER BY run_id DESC LIMIT $1) e
			WHERE e.completed_at >= $2 AND ($3 = '' OR (SELECT r.assistant_id FROM {runs} r WHERE r.id = e.run_id) = $3)`,
			limit, s.at(from), assistantID)
		err = each(rows, err, func(row scanner) error {
			var id int64
			var text string
			err := row.Scan(&id, &text)
			c := counts[text]
			counts[text] = webtrigger.ErrorCount{Error: text, Count: c.Count + 1, LastRunID: max(c.LastRunID, id)}
			return err
		})
		if err != nil {
			return nil, s.wrap("count errors", err)
		}
	}
	list := slices.Collect(maps.Values(counts))
	slices.SortFunc(list, func(a, b webtrigger.ErrorCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(b.LastRunID, a.LastRunID))
	})
	return list, nil
}
