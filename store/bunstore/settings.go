package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// The settings of a role or a database change what a session reads and writes.
//
// The store sets those that change the text of values, on each connection and only
// where they differ: a driver that reads text expects DateStyle ISO, and one that
// writes text expects UTF-8 and standard strings. PgBouncer keeps exactly these
// settings apart for each client (it follows what the server reports), so this is
// safe in transaction mode too.
//
// The store does not set others. A session setting in transaction mode would reach
// other clients of the pooler. The statements do not depend on bytea_output,
// IntervalStyle, TimeZone, extra_float_digits and the default isolation. Settings that
// break a guarantee are rejected: see rejectedSettings.

// connectionCheckText checks a connection and sets what differs. $local is replaced.
const connectionCheckText = `SELECT current_setting('transaction_read_only') = 'on',
	(CASE WHEN current_setting('client_encoding') <> 'UTF8' THEN set_config('client_encoding', 'UTF8', $local) END) IS NOT NULL
	OR (CASE WHEN current_setting('standard_conforming_strings') <> 'on' THEN set_config('standard_conforming_strings', 'on', $local) END) IS NOT NULL
	OR (CASE WHEN split_part(current_setting('DateStyle'), ',', 1) <> 'ISO' THEN set_config('DateStyle', 'ISO', $local) END) IS NOT NULL`

// querier is what *sql.Conn and *sql.Tx have in common here.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// connectionCheck reports whether a connection leads to a read-only server, and
// whether it had settings that were changed: for the session, or for the
// transaction (local).
func connectionCheck(ctx context.Context, on querier, local bool) (readOnly, adjusted bool, err error) {
	text := strings.ReplaceAll(connectionCheckText, "$local", strconv.FormatBool(local))
	err = queryOne(ctx, on, text, &readOnly, &adjusted)
	return readOnly, adjusted, err
}

// queryOne reads the one row of an answer.
func queryOne(ctx context.Context, on querier, text string, dest ...any) error {
	rows, err := on.QueryContext(ctx, text)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return errors.Join(sql.ErrNoRows, rows.Err())
	}
	if err := rows.Scan(dest...); err != nil {
		return err
	}
	return rows.Close()
}

var errReadOnly = fmt.Errorf("bunstore: %w: the PostgreSQL server is read-only (transaction_read_only is on): "+
	"it is a standby, or default_transaction_read_only is set; the store reconnects until it reaches a server that accepts writes",
	webtrigger.ErrUnavailable)

// settingsText reads the settings that can break a guarantee. A server without fsync
// is for tests and is not checked.
const settingsText = `SELECT current_setting('transaction_read_only') = 'on', current_setting('server_encoding'),
	current_setting('synchronous_commit') = 'off' AND (current_setting('fsync') = 'on'
		OR EXISTS (SELECT FROM pg_settings WHERE name = 'synchronous_commit' AND source IN ('user', 'database', 'database user'))),
	coalesce((SELECT string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name)
		FROM unnest(ARRAY['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout']) AS name
		WHERE coalesce(current_setting(name, true), '') NOT IN ('', '0')
			AND current_setting(name, true)::interval < interval '1 second'), '')`

// rejectedSettings returns an error that names each setting with which the store
// cannot keep its guarantees, and the remedy.
func rejectedSettings(ctx context.Context, on querier) error {
	var readOnly, asynchronous bool
	var encoding, timeouts string
	if err := queryOne(ctx, on, settingsText, &readOnly, &encoding, &asynchronous, &timeouts); err != nil {
		return err
	}
	if readOnly {
		return errReadOnly
	}
	var errs []error
	if encoding != "UTF8" {
		errs = append(errs, fmt.Errorf("database encoding is %s: create a database with ENCODING 'UTF8'", encoding))
	}
	if asynchronous {
		errs = append(errs, errors.New("synchronous_commit is off, so a crash can lose accepted triggers: "+
			"ALTER ROLE … SET synchronous_commit = on for the role of the store"))
	}
	if timeouts != "" {
		errs = append(errs, fmt.Errorf("a timeout is shorter than 1 s (%s): ALTER ROLE … SET it to 0 or to at least 1s for the role of the store", timeouts))
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("bunstore: %w: PostgreSQL settings: %w", webtrigger.ErrUnavailable, errors.Join(errs...))
}

// settingsError explains why pgdriver does not connect: it checks the setting before any
// statement can change it.
func settingsError(err error) error {
	if err == nil || sqlState(err) != "" || !strings.Contains(err.Error(), "standard_conforming_strings") {
		return err
	}
	return fmt.Errorf("ALTER ROLE … SET standard_conforming_strings = on and client_encoding = 'UTF8' for the role of the store, "+
		"and check that the database and its encoding are UTF8: %w", err)
}
