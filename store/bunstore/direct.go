package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"
)

// direct runs prepared statements on pgdriver's connections by the driver's own
// interfaces, past those of database/sql, because of what comes of a connection
// that is out of step. When pgdriver gives up waiting for the answer of a prepared
// statement, by the context's deadline or its own ReadTimeout, it returns the
// connection to the pool without a word; the answer arrives later, and whoever
// uses the connection next reads it as their own. database/sql does not say which
// connection that was. So this takes one from the pool, and has the pool close it
// after any error that is not the server's own.
type direct struct {
	db *sql.DB

	mu    sync.Mutex // guards what follows
	conns map[directConn]map[string]directStmt
}

// directConn is a driver's connection. One at a time uses it.
type directConn interface {
	driver.ConnPrepareContext
	driver.Validator
}

type directStmt interface {
	driver.StmtExecContext
	driver.StmtQueryContext
}

func newDirect(db *sql.DB) *direct {
	return &direct{db: db, conns: make(map[directConn]map[string]directStmt)}
}

func (d *direct) exec(ctx context.Context, text string, args []any) (affected int64, err error) {
	err = d.run(ctx, func(p *pinned) (err error) {
		affected, err = p.exec(ctx, text, args)
		return err
	})
	return affected, err
}

// query reads a whole answer: the connection is free when it returns.
func (d *direct) query(ctx context.Context, text string, args []any) (h *held, err error) {
	err = d.run(ctx, func(p *pinned) (err error) {
		h, err = p.query(ctx, text, args)
		return err
	})
	return h, err
}

// run has use run statements on a connection of the pool. One on which nothing
// could be sent is replaced by another, as database/sql does.
func (d *direct) run(ctx context.Context, use func(p *pinned) error) (err error) {
	for range 3 {
		if err = d.try(ctx, use); !errors.Is(err, driver.ErrBadConn) {
			return err
		}
	}
	return err
}

func (d *direct) try(ctx context.Context, use func(p *pinned) error) error {
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var failed error
	err = conn.Raw(func(raw any) error {
		c, ok := raw.(directConn)
		if !ok {
			failed = fmt.Errorf("bunstore: connections of type %T cannot be checked: set Options.NoPreparedStatements", raw)
			return nil
		}
		failed = use(&pinned{d, c})
		if !outOfStep(failed) {
			return nil
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.conns, c)
		return driver.ErrBadConn // the pool closes it
	})
	if failed != nil {
		return failed
	}
	return err
}

// pinned is a connection while it is out of the pool.
type pinned struct {
	direct *direct
	conn   directConn
}

func (p *pinned) exec(ctx context.Context, text string, args []any) (affected int64, _ error) {
	st, values, err := p.prepare(ctx, text, args)
	if err != nil {
		return 0, err
	}
	result, err := st.ExecContext(ctx, values)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (p *pinned) query(ctx context.Context, text string, args []any) (*held, error) {
	st, values, err := p.prepare(ctx, text, args)
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx, values)
	if err != nil {
		return nil, err
	}
	h := &held{}
	return h, h.readAll(rows)
}

func (p *pinned) prepare(ctx context.Context, text string, args []any) (directStmt, []driver.NamedValue, error) {
	values, err := namedValues(args)
	if err != nil {
		return nil, nil, err
	}
	st, err := p.direct.prepared(ctx, p.conn, text)
	return st, values, err
}

// outOfStep reports whether nobody knows, after an error, what the connection
// says next. The server's own errors leave it in order, but for those that end
// the session (57P..) or tell that what was prepared is not what it was.
func outOfStep(err error) bool {
	if err == nil {
		return false
	}
	state := sqlState(err)
	return state == "" || state[:3] == "57P" || state == "26000" || state == "0A000"
}

// prepared returns the connection's statement of a text.
func (d *direct) prepared(ctx context.Context, c directConn, text string) (directStmt, error) {
	d.mu.Lock()
	known, ok := d.conns[c]
	if !ok {
		// The pool closes connections without a word: a new one is when to look.
		for old := range d.conns {
			if !old.IsValid() {
				delete(d.conns, old)
			}
		}
		known = make(map[string]directStmt)
		d.conns[c] = known
	}
	d.mu.Unlock()
	if st, ok := known[text]; ok {
		return st, nil
	}
	prepared, err := c.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	st, ok := prepared.(directStmt)
	if !ok {
		return nil, fmt.Errorf("bunstore: statements of type %T know no context: set Options.NoPreparedStatements", prepared)
	}
	known[text] = st
	return st, nil
}

// namedValues are arguments as drivers take them.
func namedValues(args []any) ([]driver.NamedValue, error) {
	values := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		v, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return nil, fmt.Errorf("bunstore: argument $%d: %w", i+1, err)
		}
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return values, nil
}

// held is an answer in memory, read like [sql.Rows].
type held struct {
	rows [][]driver.Value
	at   int // how many have been begun
}

func (h *held) readAll(rows driver.Rows) error {
	width := len(rows.Columns())
	for {
		row := make([]driver.Value, width)
		switch err := rows.Next(row); err {
		case nil:
		case io.EOF:
			return rows.Close()
		default:
			return err
		}
		for i, v := range row {
			if b, ok := v.([]byte); ok { // the driver's until the next row
				row[i] = slices.Clone(b)
			}
		}
		h.rows = append(h.rows, row)
	}
}

func (h *held) Next() bool {
	h.at = min(h.at+1, len(h.rows)+1)
	return h.at <= len(h.rows)
}

func (h *held) Err() error   { return nil }
func (h *held) Close() error { h.at = len(h.rows) + 1; return nil }

func (h *held) Scan(dest ...any) error {
	if h.at == 0 || h.at > len(h.rows) {
		return errors.New("bunstore: Scan without a row")
	}
	row := h.rows[h.at-1]
	if len(dest) != len(row) {
		return fmt.Errorf("bunstore: a row has %d columns, not %d", len(row), len(dest))
	}
	for i := range dest {
		if err := assign(dest[i], row[i]); err != nil {
			return fmt.Errorf("bunstore: column %d: %w", i, err)
		}
	}
	return nil
}

var errNull = errors.New("unexpected NULL")

// assign is what Scan of [sql.Rows] does, for the types that this package reads.
func assign(dest any, value driver.Value) error {
	if scanner, ok := dest.(sql.Scanner); ok {
		return scanner.Scan(value)
	}
	v := reflect.ValueOf(dest).Elem()
	switch v.Kind() {
	case reflect.Bool:
		return scan(value, v.SetBool)
	case reflect.Int, reflect.Int32, reflect.Int64:
		return scan(value, func(n int64) { v.SetInt(n) })
	case reflect.String:
		return scan(value, v.SetString)
	case reflect.Slice:
		if value == nil {
			v.SetZero()
			return nil
		}
		return scan(value, v.SetBytes)
	}
	return fmt.Errorf("a %T cannot be read", dest)
}

// scan converts as [sql.Null] does.
func scan[T any](value driver.Value, set func(T)) error {
	var n sql.Null[T]
	if err := n.Scan(value); err != nil {
		return err
	}
	if !n.Valid {
		return errNull
	}
	set(n.V)
	return nil
}
