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
)

// direct runs prepared statements on pgdriver's connections by the driver's own
// interfaces, past those of database/sql, because of what comes of a connection
// that is out of step. When pgdriver gives up waiting for the answer of a prepared
// statement, by the context's deadline or its own ReadTimeout, it returns the
// connection to the pool without an error; the answer arrives later, and the next
// user of the connection reads it as its own. database/sql does not report
// which connection that was. So direct takes one from the pool, and after any error
// that is not the server's own, the pool closes it.
type direct struct{ lender *lender }

// directConn is a driver's connection. One at a time uses it.
type directConn interface {
	driver.ConnPrepareContext
	driver.Validator
}

type directStmt interface {
	driver.StmtExecContext
	driver.StmtQueryContext
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

// run has use run statements on a connection of the pool.
func (d *direct) run(ctx context.Context, use func(p *pinned) error) error {
	return d.lender.lend(ctx, func(l *lent) (failed error) {
		err := l.Raw(func(raw any) error {
			conn, ok := raw.(directConn)
			if !ok {
				failed = fmt.Errorf("bunstore: connections of type %T cannot be checked: set Options.NoPreparedStatements", raw)
				return nil
			}
			failed = use(&pinned{l, conn, d.lender.statements(raw)})
			return nil
		})
		if failed != nil {
			return failed
		}
		return err
	})
}

// pinned is a connection while it is out of the pool.
type pinned struct {
	lent  *lent
	conn  directConn
	known map[string]directStmt // what is prepared on it, by text
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
	if st, ok := p.known[text]; ok {
		return st, values, nil
	}
	prepared, err := p.conn.PrepareContext(ctx, text)
	if err != nil {
		p.lent.lostBefore(ctx, err) // nothing was executed yet
		return nil, nil, err
	}
	st, ok := prepared.(directStmt)
	if !ok {
		return nil, nil, fmt.Errorf("bunstore: statements of type %T do not support contexts: set Options.NoPreparedStatements", prepared)
	}
	p.known[text] = st
	return st, values, nil
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
	var free []driver.Value // of the next rows: an allocation for several
	for {
		if len(free) < width {
			free = make([]driver.Value, width*min(1+len(h.rows), 64))
		}
		row := free[:width:width]
		free = free[width:]
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

// readRows reads what is left of an answer of database/sql.
func (h *held) readRows(rows *sql.Rows) error {
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		values, dest := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		row := make([]driver.Value, len(columns))
		for i, v := range values {
			row[i] = v
		}
		h.rows = append(h.rows, row)
	}
	return rows.Err()
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
