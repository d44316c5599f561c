package bunstore

import (
	"context"
	"database/sql"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// RecordPass implements [webtrigger.RetentionStore]. The table has one row.
func (s *Store) RecordPass(ctx context.Context, deleted webtrigger.Purged) error {
	return s.write(ctx, "record purge", func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		var deletedAt any
		if deleted != (webtrigger.Purged{}) {
			deletedAt = t.at(now)
		}
		_, err = t.exec(t.ctx, `INSERT INTO {purges} AS p (id, passed_at, deleted_at, triggers, events, audit_entries, stats_hours) VALUES (1, $1, $2, $3, $4, $5, $6)
			ON CONFLICT (id) DO UPDATE SET passed_at = excluded.passed_at, deleted_at = coalesce(excluded.deleted_at, p.deleted_at),
				triggers = CASE WHEN excluded.deleted_at IS NULL THEN p.triggers ELSE excluded.triggers END,
				events = CASE WHEN excluded.deleted_at IS NULL THEN p.events ELSE excluded.events END,
				audit_entries = CASE WHEN excluded.deleted_at IS NULL THEN p.audit_entries ELSE excluded.audit_entries END,
				stats_hours = CASE WHEN excluded.deleted_at IS NULL THEN p.stats_hours ELSE excluded.stats_hours END`,
			t.at(now), deletedAt, deleted.Triggers, deleted.Events, deleted.AuditEntries, deleted.StatsHours)
		return err
	})
}

// DataState implements [webtrigger.RetentionStore].
func (s *Store) DataState(ctx context.Context) (state webtrigger.DataState, _ error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return state, err
	}
	defer cancel()
	for table, n := range map[string]*webtrigger.StoredCount{
		"runs": &state.Runs, "deliveries": &state.Deliveries, "audit": &state.AuditEntries} {
		if *n, err = s.storedCount(ctx, table); err != nil {
			return webtrigger.DataState{}, s.wrap("count rows", err)
		}
	}
	err = s.pool().row(ctx, `SELECT created_at FROM {runs} ORDER BY id LIMIT 1`).Scan(stamp{&state.OldestRun})
	if err == nil || err == sql.ErrNoRows {
		state.Bytes, err = s.storedBytes(ctx)
	}
	if err == nil {
		d := &state.Deleted
		err = s.pool().row(ctx, `SELECT passed_at, deleted_at, triggers, events, audit_entries, stats_hours FROM {purges}`).Scan(
			stamp{&state.PassedAt}, stamp{&state.DeletedAt}, &d.Triggers, &d.Events, &d.AuditEntries, &d.StatsHours)
	}
	if err != nil && err != sql.ErrNoRows {
		return webtrigger.DataState{}, s.wrap("read data state", err)
	}
	return state, nil
}

// storedCount counts the newest rows of a table. If there are more, it estimates: by the
// statistics of Postgres, or on SQLite by the distance of the ids.
func (s *Store) storedCount(ctx context.Context, table string) (n webtrigger.StoredCount, _ error) {
	err := s.unprepared().row(ctx, `SELECT count(*) FROM (SELECT id FROM {`+table+`} ORDER BY id DESC LIMIT $1) r`, webtrigger.ExactCount+1).Scan(&n.Count)
	if err != nil || n.Count <= webtrigger.ExactCount {
		return n, err
	}
	var estimate int64
	if s.postgres {
		err = s.unprepared().row(ctx, `SELECT CAST(reltuples AS bigint) FROM pg_class WHERE oid = to_regclass($1)`, s.tablePrefix()+table).Scan(&estimate)
	} else {
		err = s.unprepared().row(ctx, `SELECT (SELECT max(id) FROM {`+table+`}) - (SELECT min(id) FROM {`+table+`}) + 1`).Scan(&estimate)
	}
	return webtrigger.StoredCount{Count: max(estimate, webtrigger.ExactCount), Estimated: true}, err
}

// storedBytes is the size of the tables with their indexes, or on SQLite of the used part
// of the database, other tables included.
func (s *Store) storedBytes(ctx context.Context) (n int64, _ error) {
	text := `SELECT (SELECT page_count FROM pragma_page_count()) * (SELECT page_size FROM pragma_page_size())
		- (SELECT freelist_count FROM pragma_freelist_count()) * (SELECT page_size FROM pragma_page_size())`
	if s.postgres {
		names := make([]string, len(tables))
		for i, table := range tables {
			names[i] = "('{" + table + "}')"
		}
		text = `SELECT CAST(sum(pg_total_relation_size(to_regclass(name))) AS bigint) FROM (VALUES ` + strings.Join(names, ", ") + `) t (name)`
	}
	err := s.unprepared().row(ctx, text).Scan(&n)
	return n, err
}
