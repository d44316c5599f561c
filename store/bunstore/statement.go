package bunstore

import (
	"context"
	"database/sql"
	"strings"
	"sync/atomic"
)

// tables are the names of the tables without their prefix.
var tables = []string{
	"channels", "api_keys", "task_definitions", "conversations", "runs", "queue", "processes",
	"ends", "purge_marks", "messages", "events", "steps", "deliveries", "idempotency_keys", "task_copies", "audit", "stats", "inputs", "purges",
}

// tableNames replaces what the SQL texts of this package leave open: {runs} is
// the table of that name. It also
// replaces what differs between the dialects.
func tableNames(prefix string, postgres bool) *strings.Replacer {
	var pairs []string
	for _, table := range tables {
		pairs = append(pairs, "{"+table+"}", prefix+table)
	}
	if postgres {
		return strings.NewReplacer(append(pairs,
			"{for update}", "FOR UPDATE",
			"{skip locked}", "FOR UPDATE SKIP LOCKED",
			"{size}", "octet_length(payload)",
			"{bytes of metadata}", "octet_length(r.metadata)",
			"{hex body_hash}", "encode(body_hash, 'hex')", // reading bytea depends on bytea_output
			"{in ids}", "= ANY ($1::bigint[])",
			"{ids}", "(SELECT unnest($1::bigint[]) AS id)",
			"{time}", "timestamptz",
			"{hour}", "CAST(floor(extract(epoch FROM e.completed_at) / 3600) AS bigint)",
			"{took}", "extract(epoch FROM e.completed_at - e.started_at) * 1000000",
			"{task id}", "split_part(substr(r.task, 1, 26), ',', 1)", // as the index has it
			"{status}", "e.status", // the planner has statistics of the column
			"{and unsuccessful}", "", // it proves what follows from literals, and would count it twice
			"{and open}", "",
			"{by failed runs}", "",
			"{and not completed}", "",
			"{clock}", "clock_timestamp()",
			"{microsecond}", "interval '1 microsecond'",
		)...)
	}
	return strings.NewReplacer(append(pairs,
		"$", "?", // numbered parameters
		"{for update}", "",
		"{skip locked}", "",
		"{size}", "length(CAST(payload AS BLOB))",
		"{bytes of metadata}", "length(CAST(r.metadata AS BLOB))",
		"{hex body_hash}", "lower(hex(body_hash))",
		"{in ids}", "IN (SELECT value FROM json_each(?1))",
		"{ids}", "(SELECT value AS id FROM json_each(?1))",
		"{time}", "integer",
		"{hour}", "(e.completed_at / 3600000000)",
		"{took}", "(e.completed_at - e.started_at)",
		"{task id}", "substr(r.task, 1, instr(r.task, ',') - 1)",
		"{and unsuccessful}", " AND d.state IN ('failed', 'blocked', 'unknown')", // as the indexes have it
		"{by failed runs}", " INDEXED BY "+prefix+"deliveries_failed_runs", // or it prefers another one, and sorts all
		"{and open}", " AND d.state IN ('pending', 'sending')",
		"{and not completed}", " AND status <> 'completed'",
		"{status}", "coalesce(e.status, '')", // or the planner begins with all ends, and sorts them
		"{clock}", "NULL",
		"{microsecond}", "1",
	)...)
}

// statement is one SQL text, prepared when it is first used.
type statement struct {
	text     string
	prepared atomic.Pointer[sql.Stmt] // on the pool; nil: not yet
}

func (st *statement) close() error {
	if prepared := st.prepared.Load(); prepared != nil {
		return prepared.Close()
	}
	return nil
}

// statement returns the statement of a text with the names left open.
func (s *Store) statement(text string) *statement {
	if st, ok := s.statements.Load(text); ok {
		return st.(*statement)
	}
	st, _ := s.statements.LoadOrStore(text, &statement{text: s.names.Replace(text)})
	return st.(*statement)
}

// prepare returns the statement prepared on the pool: database/sql prepares it
// on each connection that comes to use it.
func (st *statement) prepare(ctx context.Context, db *sql.DB) (*sql.Stmt, error) {
	if known := st.prepared.Load(); known != nil {
		return known, nil
	}
	prepared, err := db.PrepareContext(ctx, st.text)
	if err != nil {
		return nil, err
	}
	if !st.prepared.CompareAndSwap(nil, prepared) { // another call was faster
		_ = prepared.Close()
	}
	return st.prepared.Load(), nil
}

// session runs statements: on the pool, in a transaction or on one connection.
type session struct {
	store  *Store
	on     executor             // runs a text; nil: on a connection that lender lends
	pooled bool                 // on the pool: with prepared statements
	keep   map[string]*sql.Stmt // on one connection: what is prepared there
	pinned *pinned              // in a transaction with prepared statements; then the rest is unset
}

// executor is what *sql.DB, *sql.Conn and *sql.Tx have in common.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// pool is the session outside of any transaction.
func (s *Store) pool() session {
	q := s.unprepared()
	q.pooled = !s.opts.NoPreparedStatements
	return q
}

// within is the session of a transaction on Postgres. It sends texts: preparing
// one takes a further connection from the pool, which transactions that wait for
// it may have exhausted, and no transaction is frequent enough to gain by it.
func (s *Store) within(tx *sql.Tx) session { return session{store: s, on: tx} }

// prepared returns the statement to run a text with, or nil where the text is
// sent as it is.
func (q session) prepared(ctx context.Context, st *statement) (*sql.Stmt, error) {
	switch {
	case q.keep != nil:
		if kept := q.keep[st.text]; kept != nil {
			return kept, nil
		}
		prepared, err := q.on.PrepareContext(ctx, st.text)
		if err == nil {
			q.keep[st.text] = prepared
		}
		return prepared, err
	case q.pooled:
		return st.prepare(ctx, q.store.db.DB)
	}
	return nil, nil
}

func (q session) rows(ctx context.Context, text string, args ...any) (answer, error) {
	st := q.store.statement(text)
	if q.pinned != nil {
		return answered(q.pinned.query(ctx, st.text, args))
	}
	if q.pooled && q.store.direct != nil {
		return answered(q.store.direct.query(ctx, st.text, args))
	}
	if q.on == nil {
		return answered(q.store.lender.rows(ctx, st.text, args))
	}
	prepared, err := q.prepared(ctx, st)
	switch {
	case err != nil:
		return nil, err
	case prepared != nil:
		return answered(prepared.QueryContext(ctx, args...))
	}
	return answered(q.on.QueryContext(ctx, st.text, args...))
}

// answer is *sql.Rows, or what direct has read.
type answer interface {
	scanner
	Next() bool
	Err() error
	Close() error
}

// answered keeps a nil pointer from being an answer.
func answered[A answer](a A, err error) (answer, error) {
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (q session) exec(ctx context.Context, text string, args ...any) (affected int64, err error) {
	st := q.store.statement(text)
	if q.pinned != nil {
		return q.pinned.exec(ctx, st.text, args)
	}
	if q.pooled && q.store.direct != nil {
		return q.store.direct.exec(ctx, st.text, args)
	}
	if q.on == nil {
		return q.store.lender.exec(ctx, st.text, args)
	}
	prepared, err := q.prepared(ctx, st)
	if err != nil {
		return 0, err
	}
	var result sql.Result
	if prepared != nil {
		result, err = prepared.ExecContext(ctx, args...)
	} else {
		result, err = q.on.ExecContext(ctx, st.text, args...)
	}
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// row is the first row of an answer, or the error in its place.
type row struct {
	rows answer
	err  error
}

func (q session) row(ctx context.Context, text string, args ...any) row {
	rows, err := q.rows(ctx, text, args...)
	return row{rows, err}
}

// Scan reads the row. If the result has no row, it returns sql.ErrNoRows.
func (r row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return sql.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	return r.rows.Close()
}

// scanner is a row that can be read.
type scanner interface{ Scan(dest ...any) error }

// each calls read with every row.
func each(rows answer, err error, read func(row scanner) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := read(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// collect reads every row into a list.
func collect[T any](rows answer, err error, read func(row scanner) (T, error)) (list []T, _ error) {
	err = each(rows, err, func(row scanner) error {
		item, err := read(row)
		list = append(list, item)
		return err
	})
	return list, err
}
