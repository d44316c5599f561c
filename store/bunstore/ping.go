package bunstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/webtrigger-go/webtrigger"
)

// Ping reports whether the database answers and supports the guarantees of the store.
// It returns an error for a read-only server or file, for settings that
// [Store.Migrate] rejects, and for tables that are missing or older than this package.
func (s *Store) Ping(ctx context.Context) error {
	if err := ended(ctx); err != nil {
		return err
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if s.postgres {
		err := s.lender.lend(ctx, func(l *lent) error { return rejectedSettings(ctx, l.Conn.Conn) })
		if err != nil {
			return s.wrap("ping", err)
		}
	} else {
		// A transaction that could write: it fails where the file is read-only or locked.
		err := s.writer.transact(ctx, s, func(session) error { return nil })
		if err != nil {
			return s.wrap("ping", err)
		}
	}
	return s.wrap("ping", s.checkSchema(ctx))
}

// schemaState is the store's state of the tables' version.
type schemaState struct {
	mu     sync.Mutex
	good   bool // looked at, and not older than this package
	missed bool // an error about it is logged
	newer  bool // a warning about it is logged
}

// reset makes the next Ping check the schema again.
func (st *schemaState) reset() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.good, st.missed = false, false
}

// first reports whether a flag was not set, and sets it.
func (st *schemaState) first(flag *bool) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	was := *flag
	*flag = true
	return !was
}

// checkSchema compares the applied migrations with those of this package.
func (s *Store) checkSchema(ctx context.Context) error {
	s.schema.mu.Lock()
	good := s.schema.good
	s.schema.mu.Unlock()
	if good {
		return nil
	}
	list, err := s.migrations()
	if err != nil {
		return err
	}
	rows, err := s.unprepared().rows(ctx, `SELECT name FROM `+s.tablePrefix()+`migrations ORDER BY name`)
	applied, err := collect(rows, err, func(row scanner) (name string, _ error) { return name, row.Scan(&name) })
	if err != nil {
		return err
	}
	for _, m := range list {
		if !slices.Contains(applied, m.name) {
			return fmt.Errorf("bunstore: %w: migration %s is not applied", errNotMigrated, m.name)
		}
	}
	if last := applied[len(applied)-1]; last > list[len(list)-1].name && s.schema.first(&s.schema.newer) {
		s.log.WarnContext(ctx, "store tables are newer than this version of bunstore", "remedy", "update the process",
			"applied", last, "known", list[len(list)-1].name)
	}
	s.schema.first(&s.schema.good)
	return nil
}

var errNotMigrated = fmt.Errorf("tables of the store are missing or old: call Store.Migrate before the service starts "+
	"(%w)", webtrigger.ErrUnavailable)

// notMigrated explains an error about a table or column of the store that does not
// exist. It logs the first one.
func (s *Store) notMigrated(err error) error {
	missing := false
	switch state := sqlState(err); state {
	case "42P01": // undefined table
		missing = strings.Contains(err.Error(), s.opts.TablePrefix)
	case "42703": // undefined column
		missing = true
	case "":
		missing = sqliteCode(err)&0xff == 1 && (strings.Contains(err.Error(), "no such column") ||
			strings.Contains(err.Error(), "no such table: "+s.opts.TablePrefix))
	}
	if !missing {
		return nil
	}
	s.schema.mu.Lock()
	s.schema.good = false
	s.schema.mu.Unlock()
	err = fmt.Errorf("%w: %w", errNotMigrated, err)
	if s.schema.first(&s.schema.missed) {
		s.log.Error("store tables missing or old", "error", err)
	}
	return err
}
