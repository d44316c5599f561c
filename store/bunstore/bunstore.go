// Package bunstore is a [webtrigger.Store] on Postgres or SQLite through
// [bun.DB]. Any number of processes may share one Postgres; an SQLite file
// belongs to one process.
//
//	db := bun.NewDB(sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn))), pgdialect.New())
//	store, err := bunstore.New(db, nil)
//	err = store.Migrate(ctx)
//	svc, err := webtrigger.New(store, runner, nil)
//
// # How it works
//
// The transitions of a run are written once, in Go, one run at a time: see tx.
// SQLite uses nothing else. Postgres has the frequent ones (accept, claim,
// append, finish) besides as one statement each that does a whole batch, see the
// files pg_*.go. Calls that arrive together share a commit, see batcher.
//
// A run has a row in runs, written at its creation, and one in ends, written when
// it ends. In between it has one in queue, the only one that changes. What follows
// from these rows is derived when it is read: see life.
package bunstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/internal/watch"
)

// DefaultTablePrefix begins the name of every table, unless the host chooses
// another one.
const DefaultTablePrefix = "webtrigger_"

// Options is what a Store lets its host choose. The zero value is good for a
// Postgres that is reached directly or through a session pooler, and for SQLite.
type Options struct {
	// Schema is the Postgres schema of the tables, which Migrate creates if need
	// be. "": what the connection's search_path says. SQLite has none.
	Schema string

	// TablePrefix begins the name of every table, index and notification channel:
	// at most 30 of a-z, 0-9 and _, not beginning with a digit. "":
	// DefaultTablePrefix.
	TablePrefix string

	// NoNotify turns LISTEN/NOTIFY off, on Postgres: processes then learn of each
	// other's work by their polls only, within 2 seconds. Needed behind PgBouncer
	// in transaction mode, which loses LISTEN.
	NoNotify bool

	// NoPreparedStatements sends every statement as text. Needed behind PgBouncer
	// in transaction mode before 1.21; costs about a quarter of the throughput.
	NoPreparedStatements bool

	// MaxBatch is how many calls that come together may share one statement and
	// one commit. 0: 512. 1: each has its own, which costs three quarters of the
	// throughput on Postgres.
	MaxBatch int

	// Listen receives notifications for a host on another driver than pgdriver. It
	// listens to the channel until ctx ends, calls listening when it has begun to, and
	// notify with each payload. It returns when the connection is lost, and is then
	// called again. The store checks by notifications to itself whether they arrive.
	// Package pgxlisten, a module of its own, has a listener for pgx. nil: pgdriver's
	// Listener where the driver is pgdriver, otherwise none, which is logged.
	Listen func(ctx context.Context, channel string, listening func(), notify func(payload string)) error

	// Enqueue hands queued runs to another engine, such as River, inside the
	// transaction that queues them; an error fails that transaction. Such runs are
	// never claimed natively: the engine calls [webtrigger.Service.Execute]. Only
	// on Postgres. nil: runs wait in the native queue.
	Enqueue func(ctx context.Context, tx bun.Tx, runs []RunRef) error

	// Clock is the time that leases, expiry and every stamp go by on SQLite. nil:
	// the wall clock. Postgres uses its own clock always.
	Clock webtrigger.Clock

	// Logger receives records about lost connections, failed notifications and
	// unsuitable settings. If nil, they are discarded.
	Logger *slog.Logger
}

// RunRef names a queued run to another engine.
type RunRef struct {
	RunID       int64
	RunKey      string
	AssistantID string
}

// Store is the store. Its methods are safe for concurrent use. It runs
// goroutines only while calls are under way.
type Store struct {
	db       *bun.DB
	opts     Options
	postgres bool
	process  string // tells this process's notifications from others'
	clock    func() time.Time
	timeout  time.Duration // see statementTimeout
	log      *slog.Logger

	names      *strings.Replacer // of the tables, in SQL texts
	statements sync.Map          // of SQL text: *statement
	started    payloadTemplate   // of StartedEvent

	watchers watch.Hub
	notifier notifier
	writer   *sqliteWriter // nil on Postgres
	lender   *lender       // nil on SQLite
	direct   *direct       // nil on SQLite, and without pgdriver
	patrol   patrol
	schema   schemaState

	noListener sync.Once // logs that there is none

	moreMigrations []fs.FS // of tests

	background sync.WaitGroup // batches and notifications under way

	accepts *batcher[webtrigger.NewTrigger, webtrigger.CreatedTrigger]
	bounded *batcher[webtrigger.NewTrigger, webtrigger.CreatedTrigger] // those that take a place in a queue with a bound
	appends *batcher[appending, struct{}]
	ends    *batcher[ending, webtrigger.Run]
	grants  *batcher[asking, webtrigger.Grant]

	// Of Postgres only.
	begins   *batcher[webtrigger.DeliveryLease, struct{}]
	outcomes *batcher[delivered, struct{}]
}

var _ webtrigger.Store = (*Store)(nil)

var identifier = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// New returns a store on db, whose dialect is pgdialect or sqlitedialect. The
// options may be nil. It neither connects nor changes the database: see
// [Store.Migrate].
//
// An SQLite database is a file, or memory that all its connections share.
func New(db *bun.DB, opts *Options) (*Store, error) {
	if db == nil {
		return nil, errors.New("bunstore: db must not be nil")
	}
	s := &Store{db: db, process: uuid.NewString(), clock: time.Now, timeout: statementTimeout, log: slog.New(slog.DiscardHandler)}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.TablePrefix == "" {
		s.opts.TablePrefix = DefaultTablePrefix
	}
	if !identifier.MatchString(s.opts.TablePrefix) || len(s.opts.TablePrefix) > 30 {
		return nil, fmt.Errorf("bunstore: Options.TablePrefix %q must be at most 30 of a-z, 0-9 and _", s.opts.TablePrefix)
	}
	if s.opts.Schema != "" && !identifier.MatchString(s.opts.Schema) {
		return nil, fmt.Errorf("bunstore: Options.Schema %q must be out of a-z, 0-9 and _", s.opts.Schema)
	}
	if s.opts.MaxBatch < 0 {
		return nil, errors.New("bunstore: Options.MaxBatch may not be negative")
	}
	if s.opts.Clock != nil {
		s.clock = s.opts.Clock.Now
	}
	if s.opts.Logger != nil {
		s.log = s.opts.Logger
	}
	switch name := db.Dialect().Name(); name {
	case dialect.PG:
		s.postgres = true
		s.notifier.store = s
		s.lender = newLender(db)
		if s.usesPgdriver() {
			s.direct = &direct{s.lender}
		}
	case dialect.SQLite:
		if s.opts.Schema != "" {
			return nil, errors.New("bunstore: Options.Schema: SQLite has no schemas")
		}
		if s.opts.Enqueue != nil {
			return nil, errors.New("bunstore: Options.Enqueue needs Postgres")
		}
		s.writer = newSQLiteWriter(db.DB)
	default:
		return nil, fmt.Errorf("bunstore: dialect %s is neither Postgres nor SQLite", name)
	}
	s.names = tableNames(s.tablePrefix(), s.postgres)
	s.started = templateOf(webtrigger.StartedEvent)
	s.batch()
	return s, nil
}

// tablePrefix is what stands before the name of each table.
func (s *Store) tablePrefix() string {
	if s.opts.Schema == "" {
		return s.opts.TablePrefix
	}
	return s.opts.Schema + "." + s.opts.TablePrefix
}

// Close waits for what is under way though its caller has gone, and then frees
// what the store holds of the database: prepared statements, and SQLite's writing
// connection. The database itself stays open, it is the host's. No method may be
// under way or called afterwards.
func (s *Store) Close() error {
	s.background.Wait()
	var errs []error
	s.statements.Range(func(_, value any) bool {
		errs = append(errs, value.(*statement).close())
		return true
	})
	if s.writer != nil {
		errs = append(errs, s.writer.close())
	}
	return errors.Join(errs...)
}

// statementTimeout ends a call whose context has no deadline.
const statementTimeout = 30 * time.Second

// deadline gives a call one where it has none: no statement waits forever.
func (s *Store) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.timeout)
}

// now is the process's clock, as times are stored.
func (s *Store) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

// at is a time as an argument of a statement. The zero time is NULL.
func (s *Store) at(t time.Time) any {
	switch {
	case t.IsZero():
		return nil
	case s.postgres:
		return t
	}
	return t.UnixMicro()
}

// row reads one row outside of any transaction.
func (s *Store) row(ctx context.Context, text string, args ...any) row {
	return s.pool().row(ctx, text, args...)
}

// rows reads rows outside of any transaction.
func (s *Store) rows(ctx context.Context, text string, args ...any) (answer, error) {
	return s.pool().rows(ctx, text, args...)
}
