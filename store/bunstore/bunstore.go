// Package bunstore provides a [webtrigger.Store] on Postgres or SQLite through
// [bun.DB]. Any number of processes may share one Postgres database. Only one process
// may use an SQLite file.
//
//	db := bun.NewDB(sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn))), pgdialect.New())
//	store, err := bunstore.New(db, nil)
//	err = store.Migrate(ctx)
//	svc, err := webtrigger.New(store, runner, nil)
//
// # Implementation
//
// The transitions of a run are written once, in Go, for one run at a time; see tx.
// SQLite uses only these. For the frequent transitions (trigger creation, claim,
// append, finish), Postgres also has one statement each that processes a whole batch;
// see the files pg_*.go. Concurrent calls share a commit; see batcher.
//
// A run has a row in runs from its creation, and a row in ends from its end. Until it
// ends, it also has a row in queue, the only one that changes. The status of a run is
// derived from these rows when it is read; see life.
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

// DefaultTablePrefix is the default of [Options.TablePrefix].
const DefaultTablePrefix = "webtrigger_"

// Options configures a Store. The zero value is suitable for SQLite, and for a
// Postgres server that is reached directly or through a session pooler.
type Options struct {
	// Schema is the Postgres schema of the tables. Migrate creates it if it does not
	// exist. If empty, the search_path of the connection applies. SQLite has no
	// schemas.
	Schema string

	// TablePrefix starts the name of every table, index and notification channel. It
	// has at most 30 characters of a-z, 0-9 and _ and must not start with a digit. If
	// empty, it is DefaultTablePrefix.
	TablePrefix string

	// NoNotify disables LISTEN/NOTIFY on Postgres. Processes then detect each other's
	// changes only by polling, within 2 s. You must set it behind PgBouncer in
	// transaction mode, which drops LISTEN.
	NoNotify bool

	// NoPreparedStatements sends every statement as text. You must set it behind
	// PgBouncer in transaction mode before 1.21. It costs about a quarter of the
	// throughput.
	NoPreparedStatements bool

	// MaxBatch is the maximum number of concurrent calls that share one statement and
	// one commit. If zero, it is 512. If 1, each call has its own, which costs three
	// quarters of the throughput on Postgres.
	MaxBatch int

	// Listen receives notifications for a host with a driver other than pgdriver. It
	// must listen on the channel until ctx ends, call listening when it has started,
	// and call notify with each payload. It must return when the connection is lost;
	// the store then calls it again. The store sends notifications to itself to check
	// that they arrive. Package pgxlisten, a separate module, provides a listener for
	// pgx. If nil, pgdriver's Listener is used with pgdriver. With another driver
	// there is no listener, and the store logs this.
	Listen func(ctx context.Context, channel string, listening func(), notify func(payload string)) error

	// Enqueue passes queued runs to another engine, such as River, inside the
	// transaction that queues them. All runs of a call belong to one assistant.
	// Workers never claim such runs: the engine must call
	// [webtrigger.Service.Execute]. It is supported only on Postgres. If nil, runs are
	// queued in the store.
	//
	// An error or a panic rolls the transaction back, so nothing was stored: the error
	// of the call wraps [webtrigger.ErrUnavailable] and [webtrigger.ErrNotStored]. If the
	// runs of several triggers were passed together, each is then passed alone. So
	// Enqueue may be called more than once for a trigger, each time with another run
	// id.
	//
	// Enqueue must return when ctx ends, after EnqueueTimeout. If it does not, the
	// transaction is rolled back without it, and its connection is free when its
	// statement has ended. If two such calls of an assistant have not returned,
	// further ones fail at once.
	Enqueue func(ctx context.Context, tx bun.Tx, runs []RunRef) error

	// EnqueueTimeout is the maximum duration of a call of Enqueue. If zero, it is
	// DefaultEnqueueTimeout.
	EnqueueTimeout time.Duration

	// Clock provides the time for expiries and timestamps on SQLite. If nil, it is the
	// wall clock. Leases count in monotonic time; see [webtrigger.Clock]. Postgres
	// always uses its own clock.
	Clock webtrigger.Clock

	// Logger receives records about lost connections, failed notifications and
	// unsuitable settings. If nil, they are discarded.
	Logger *slog.Logger
}

// RunRef identifies a queued run for another engine.
type RunRef struct {
	RunID       int64
	RunKey      string
	AssistantID string
}

// Store is a [webtrigger.Store] on a [bun.DB]. Its methods are safe for concurrent
// use. It runs goroutines only while calls are in progress. While a process is
// registered, the store keeps one connection of a Postgres pool for its heartbeats, if
// the pool has at least four.
type Store struct {
	db       *bun.DB
	opts     Options
	postgres bool
	process  string // distinguishes this process's notifications from those of others
	clock    func() time.Time
	elapsed  func() time.Time // see leaseTime; SQLite only
	timeout  time.Duration    // see statementTimeout
	log      *slog.Logger

	names      *strings.Replacer // of the tables, in SQL texts
	statements sync.Map          // of SQL text: *statement
	started    payloadTemplate   // of StartedEvent

	watchers watch.Hub
	notifier notifier
	writer   *sqliteWriter // nil on Postgres
	lender   *lender       // nil on SQLite
	beats    *lender       // of the connection of heartbeats; nil on SQLite
	patient  chan struct{} // has the attempts that wait; see writeOpen
	direct   *direct       // nil on SQLite, and without pgdriver
	patrol   patrol
	schema   schemaState
	turns    turns
	hooks    hooks
	copies   copies

	noListener sync.Once // logs that there is none

	moreMigrations []fs.FS // of tests

	background sync.WaitGroup // batches and notifications under way

	accepts *batcher[newTrigger, webtrigger.CreatedTrigger]
	bounded *batcher[newTrigger, webtrigger.CreatedTrigger] // those that take a place in a queue with a bound
	lanes   *batcher[newTrigger, webtrigger.CreatedTrigger] // those that name a conversation; Postgres only
	appends *batcher[appending, struct{}]
	ends    *batcher[ending, webtrigger.Run]
	keys    *batcher[asking, webtrigger.Grant] // of requests that name no trigger
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
	s := &Store{db: db, process: uuid.NewString(), clock: time.Now, timeout: statementTimeout, log: slog.New(slog.DiscardHandler),
		patient: make(chan struct{}, patientCalls)}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.TablePrefix == "" {
		s.opts.TablePrefix = DefaultTablePrefix
	}
	if !identifier.MatchString(s.opts.TablePrefix) || len(s.opts.TablePrefix) > 30 {
		return nil, fmt.Errorf("bunstore: Options.TablePrefix %q must have at most 30 characters of a-z, 0-9 and _, the first not a digit", s.opts.TablePrefix)
	}
	if s.opts.Schema != "" && !identifier.MatchString(s.opts.Schema) {
		return nil, fmt.Errorf("bunstore: Options.Schema %q must have only characters of a-z, 0-9 and _, the first not a digit", s.opts.Schema)
	}
	if s.opts.MaxBatch < 0 {
		return nil, errors.New("bunstore: Options.MaxBatch must not be negative")
	}
	if s.opts.EnqueueTimeout < 0 {
		return nil, errors.New("bunstore: Options.EnqueueTimeout must not be negative")
	}
	if s.opts.EnqueueTimeout == 0 {
		s.opts.EnqueueTimeout = DefaultEnqueueTimeout
	}
	s.hooks = hooks{abandoned: make(map[string]int), hung: make(map[string]bool), open: make(map[string]int)}
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
		s.lender, s.beats = newLender(db), newLender(db)
		s.beats.kept = new(kept)
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
		s.elapsed = leaseClock(s.opts.Clock)
	default:
		return nil, fmt.Errorf("bunstore: dialect %s is neither Postgres nor SQLite", name)
	}
	s.names = tableNames(s.tablePrefix(), s.postgres)
	s.started = templateOf(webtrigger.StartedEvent)
	s.batch()
	return s, nil
}

// tablePrefix is the text before the name of each table.
func (s *Store) tablePrefix() string {
	if s.opts.Schema == "" {
		return s.opts.TablePrefix
	}
	return s.opts.Schema + "." + s.opts.TablePrefix
}

// Close waits for calls in progress whose caller has stopped waiting, and then frees
// what the store holds of the database: prepared statements, the connection of
// heartbeats, and SQLite's writing connection. The database itself stays open, it is the host's. No method may be
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
	if s.beats != nil {
		errs = append(errs, s.beats.kept.close(s.db))
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
