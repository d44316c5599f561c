// Package pgfaults tests the rules of the bun store about PostgreSQL servers that
// become read-only, sessions that end, and settings of roles and databases. Each
// driver runs the same rules.
package pgfaults

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// Open opens a pool of a driver.
type Open func(t *testing.T, dsn string) *bun.DB

// recovery is how long a store may take until it works again.
const recovery = 5 * time.Second

// ThroughPooler are the rules that hold behind PgBouncer in transaction mode, where a
// test cannot choose the connection to the server.
var ThroughPooler = []string{"read-only server recovers", "settings of text are set", "settings that break guarantees are errors"}

// Pooled returns an open that connects to PgBouncer in transaction mode instead of the
// server.
func Pooled(t *testing.T, open Open, params string) Open {
	bouncer := pgtest.Shared(t).PgBouncer(t, nil)
	return func(t *testing.T, dsn string) *bun.DB {
		u, err := url.Parse(dsn)
		require.NoError(t, err)
		return open(t, bouncer.DSN(strings.TrimPrefix(u.Path, "/"))+params)
	}
}

// Run runs the rules, or those that are named.
func Run(t *testing.T, open Open, opts *bunstore.Options, only ...string) {
	for name, rule := range map[string]func(*testing.T, Open, *bunstore.Options){
		"read-only server recovers":                 readOnlyServer,
		"read-only connections are replaced":        readOnlyConnections,
		"terminated sessions are replaced":          terminatedSessions,
		"idle session timeout is not an error":      idleSessions,
		"settings of text are set":                  textSettings,
		"settings that break guarantees are errors": brokenSettings,
	} {
		if len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rule(t, open, opts)
		})
	}
}

// place is a database with a store on it.
type place struct {
	*testing.T
	name  string
	open  func() *bun.DB // another pool of this database
	admin *bun.DB        // of another database
	db    *bun.DB
	store *bunstore.Store
}

func newPlace(t *testing.T, open Open, opts *bunstore.Options, settings ...string) *place {
	t.Helper()
	server := pgtest.Shared(t)
	p := &place{T: t, name: server.Database(t), admin: open(t, server.DSN("postgres"))}
	for _, setting := range settings {
		p.alter(`SET ` + setting)
	}
	p.open = func() *bun.DB { return open(t, server.DSN(p.name)) }
	p.db = p.open()
	store, err := bunstore.New(p.db, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	p.store = store
	return p
}

// alter runs ALTER DATABASE.
func (p *place) alter(change string) {
	p.Helper()
	p.sql(`ALTER DATABASE ` + p.name + ` ` + change)
}

func (p *place) sql(text string) {
	p.Helper()
	_, err := p.admin.DB.ExecContext(p.Context(), text)
	require.NoError(p, err)
}

// terminate ends all sessions of the database, also those that the pool opens meanwhile in
// place of broken ones.
func (p *place) terminate() {
	p.Helper()
	require.Eventually(p, func() bool {
		var n int
		err := p.admin.DB.QueryRowContext(p.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '`+p.name+`'`).Scan(&n)
		return err == nil && n == 0
	}, time.Minute, 5*time.Millisecond)
}

func (p *place) trigger() error {
	_, err := p.store.CreateTrigger(p.Context(), newTrigger())
	return err
}

func newTrigger() webtrigger.NewTrigger {
	return webtrigger.NewTrigger{RunKey: uuid.NewString(), AssistantID: "1",
		Input: webtrigger.RunInput{Subject: "s", Message: "m"}, BaseURL: "https://app.example.com"}
}

// fill opens n connections of the pool and runs a text on each.
func (p *place) fill(n int, text string) {
	p.Helper()
	conns := make([]*sql.Conn, n)
	for i := range conns {
		conn, err := p.db.DB.Conn(p.Context())
		require.NoError(p, err)
		_, err = conn.ExecContext(p.Context(), text)
		require.NoError(p, err)
		conns[i] = conn
	}
	for _, conn := range conns {
		require.NoError(p, conn.Close())
	}
}

// useAll uses n connections of the pool at once, so that the store has used all of them. A
// lock keeps each of its reads on a connection until all have one.
func (p *place) useAll(n int) {
	p.Helper()
	lock, err := p.open().BeginTx(p.Context(), nil)
	require.NoError(p, err)
	_, err = lock.ExecContext(p.Context(), `LOCK TABLE webtrigger_runs`)
	require.NoError(p, err)
	var errs = make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			_, errs[i] = p.store.Runs(p.Context(), webtrigger.RunQuery{Page: webtrigger.Page{Limit: 1}})
		})
	}
	require.Eventually(p, func() bool {
		var waiting int
		err := p.admin.DB.QueryRowContext(p.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '`+p.name+`'`).Scan(&waiting)
		return err == nil && waiting == n
	}, time.Minute, 5*time.Millisecond)
	require.NoError(p, lock.Rollback())
	all.Wait()
	require.NoError(p, errors.Join(errs...))
}

// A failover leads to a server that is read-only: nothing is stored and callers get
// ErrUnavailable. When the server accepts writes again, so does the store.
func readOnlyServer(t *testing.T, open Open, opts *bunstore.Options) {
	p := newPlace(t, open, opts)
	require.NoError(t, p.store.Migrate(t.Context()))
	require.NoError(t, p.trigger())
	p.register("w")
	p.alter(`SET default_transaction_read_only = on`)
	p.terminate()
	for range 3 {
		require.ErrorIs(t, p.trigger(), webtrigger.ErrUnavailable)
		_, err := p.store.ClaimRuns(t.Context(), webtrigger.Claim{ProcessID: "w", Token: webtrigger.NewToken(), Limit: 1})
		require.ErrorIs(t, err, webtrigger.ErrUnavailable)
		require.ErrorIs(t, p.store.RegisterProcess(t.Context(), process("w2")), webtrigger.ErrUnavailable)
		_, err = p.store.RenewProcess(t.Context(), process("w"))
		require.ErrorIs(t, err, webtrigger.ErrUnavailable)
	}
	err := p.store.Ping(t.Context())
	require.ErrorIs(t, err, webtrigger.ErrUnavailable)
	require.ErrorContains(t, err, "read-only")
	require.ErrorContains(t, p.store.Migrate(t.Context()), "read-only")

	p.alter(`RESET default_transaction_read_only`)
	began := time.Now()
	for p.trigger() != nil {
		require.Less(t, time.Since(began), recovery)
		time.Sleep(10 * time.Millisecond)
	}
	for range 20 {
		require.NoError(t, p.trigger())
	}
	require.NoError(t, p.store.Ping(t.Context()))
}

// Connections that are read-only although the server is not are closed, and what
// failed on them is done on others.
func readOnlyConnections(t *testing.T, open Open, opts *bunstore.Options) {
	p := newPlace(t, open, opts)
	require.NoError(t, p.store.Migrate(t.Context()))
	for range 3 {
		p.fill(8, `SELECT 1`)
		p.useAll(8)
		p.fill(8, `SET default_transaction_read_only = on`)
		for range 20 {
			require.NoError(t, p.trigger())
			p.register("w")
			_, err := p.store.ClaimRuns(t.Context(), webtrigger.Claim{ProcessID: "w", Token: webtrigger.NewToken(), Limit: 1})
			require.NoError(t, err)
			require.NoError(t, p.store.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
		}
		require.NoError(t, p.store.Ping(t.Context()))
	}
}

// Sessions that the server has ended are replaced, and no call returns an error.
func terminatedSessions(t *testing.T, open Open, opts *bunstore.Options) {
	p := newPlace(t, open, opts)
	require.NoError(t, p.store.Migrate(t.Context()))
	const rounds = 2
	for range rounds {
		p.fill(8, `SELECT 1`)
		p.useAll(8)
		p.terminate()
		require.NoError(t, p.trigger())
		p.terminate()
		require.NoError(t, p.store.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
		p.terminate()
		p.register("w")
		p.terminate()
		_, err := p.store.ClaimRuns(t.Context(), webtrigger.Claim{ProcessID: "w", Token: webtrigger.NewToken(), Limit: 1})
		require.NoError(t, err)
		p.terminate()
		renewed, err := p.store.RenewProcess(t.Context(), process("w"))
		require.NoError(t, err)
		require.True(t, renewed.Registered)
		p.terminate()
		require.NoError(t, p.store.Ping(t.Context()))
		p.terminate()
		bounded := newTrigger()
		bounded.MaxQueued = 100
		_, err = p.store.CreateTrigger(t.Context(), bounded)
		require.NoError(t, err)
	}
	runs, err := p.store.Runs(t.Context(), webtrigger.RunQuery{Page: webtrigger.Page{Limit: 100}})
	require.NoError(t, err)
	require.Len(t, runs, 2*rounds, "stored once each")
}

func idleSessions(t *testing.T, open Open, opts *bunstore.Options) {
	p := newPlace(t, open, opts, `idle_session_timeout = '250ms'`)
	require.NoError(t, p.store.Migrate(t.Context()))
	for range 4 {
		time.Sleep(300 * time.Millisecond)
		require.NoError(t, p.trigger())
	}
}

func process(id string) webtrigger.Process {
	return webtrigger.Process{ID: id, Lease: time.Minute, MaxAttempts: 1}
}

// register registers a process, if it is not registered.
func (p *place) register(id string) {
	p.Helper()
	require.NoError(p, p.store.RegisterProcess(p.Context(), process(id)))
}

// cycle does what requests and workers do, with values that settings could change.
func (p *place) cycle() {
	p.Helper()
	ctx, s := p.Context(), p.store
	const nasty = `back\slash 'quote' "double" \' ; -- ü € 漢字 \x41 $1 {}`
	require.NoError(p, s.Ping(ctx))
	require.NoError(p, s.SetChannel(ctx, webtrigger.Channel{AssistantID: nasty, Enabled: true}))
	key, err := s.CreateKey(ctx, webtrigger.NewKey{AssistantID: nasty, Name: nasty, Prefix: "abc", Hash: [32]byte{1, '\\', 0xff, 0}})
	require.NoError(p, err)
	require.WithinDuration(p, time.Now(), key.CreatedAt, time.Minute)

	trigger := newTrigger()
	trigger.AssistantID, trigger.Input.Message = nasty, nasty
	trigger.Input.Metadata = []byte(`{"a":"` + strings.ReplaceAll(strings.ReplaceAll(nasty, `\`, `\\`), `"`, `\"`) + `"}`)
	trigger.Idempotency = &webtrigger.Idempotency{Key: nasty, BodyHash: [32]byte{9, '\\', 0, 0xff}, TTL: time.Hour}
	accepted, err := s.CreateTrigger(ctx, trigger)
	require.NoError(p, err)
	again, err := s.CreateTrigger(ctx, trigger)
	require.NoError(p, err)
	require.True(p, again.Replayed)
	require.WithinDuration(p, time.Now(), accepted.Run.CreatedAt, time.Minute)

	tx, err := p.db.BeginTx(ctx, nil)
	require.NoError(p, err)
	inside := newTrigger()
	inside.AssistantID, inside.Input.Message = "inside", nasty
	_, err = s.Tx(tx).CreateTrigger(ctx, inside)
	require.NoError(p, err)
	require.NoError(p, tx.Commit())

	p.register(nasty)
	claims, err := s.ClaimRuns(ctx, webtrigger.Claim{ProcessID: nasty, Token: webtrigger.NewToken(), Limit: 10})
	require.NoError(p, err)
	require.Len(p, claims, 2)
	for _, claim := range claims {
		require.Equal(p, nasty, claim.Input.Message)
		require.NoError(p, s.AppendEvents(ctx, claim.Lease, webtrigger.EventBatch{Number: 1,
			Events: []webtrigger.NewEvent{{Type: "x_step", Payload: []byte(`{"n":"\\"}`)}}}))
	}
	renewed, err := s.RenewProcess(ctx, process(nasty))
	require.NoError(p, err)
	require.Len(p, renewed.Claims, 2)
	require.Equal(p, claims[0].Lease, renewed.Claims[0].Lease)
	require.ErrorIs(p, s.RemoveProcess(ctx, nasty), webtrigger.ErrConflict)
	page, err := s.Events(ctx, webtrigger.EventQuery{ConversationID: accepted.Run.ConversationID, Limit: 10})
	require.NoError(p, err)
	require.Len(p, page.Events, 3)
	require.WithinDuration(p, time.Now(), page.Events[2].CreatedAt, time.Minute)
	runs, err := s.Runs(ctx, webtrigger.RunQuery{AssistantID: nasty, From: time.Now().Add(-time.Hour), Page: webtrigger.Page{Limit: 10}})
	require.NoError(p, err)
	require.Len(p, runs, 1)
	require.Equal(p, accepted.Run.CreatedAt, runs[0].CreatedAt)
	_, err = s.Purge(ctx, webtrigger.Purge{Limit: 10})
	require.NoError(p, err)
}

// textSettings are settings that change no result of the store. A database has as many of
// them as possible: those with different names.
func textSettings(t *testing.T, open Open, opts *bunstore.Options) {
	for name, settings := range map[string][]string{
		"first": {
			`bytea_output = 'escape'`, `DateStyle = 'SQL, DMY'`, `IntervalStyle = 'iso_8601'`, `TimeZone = 'Asia/Kathmandu'`,
			`extra_float_digits = -15`, `default_transaction_isolation = 'serializable'`, `default_transaction_deferrable = on`,
			`statement_timeout = '20s'`, `quote_all_identifiers = on`, `xmloption = 'document'`, `array_nulls = off`,
		},
		"second": {
			`DateStyle = 'German'`, `IntervalStyle = 'sql_standard'`, `TimeZone = 'America/St_Johns'`,
			`default_transaction_isolation = 'repeatable read'`, `lock_timeout = '2s'`, `backslash_quote = off`,
			`plan_cache_mode = 'force_generic_plan'`, `row_security = off`, `transform_null_equals = on`, `work_mem = '64kB'`,
		},
		"third": {
			`DateStyle = 'Postgres, MDY'`, `idle_in_transaction_session_timeout = '5s'`, `search_path = 'public'`, `lc_messages = 'C'`,
		},
	} {
		if opts == nil && name == "third" {
			settings = append(settings, `jit_above_cost = 0`) // compiles each statement, which takes seconds
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, open, opts, settings...)
			require.NoError(t, p.store.Migrate(t.Context()), "%q", settings)
			p.cycle()
		})
	}
}

// brokenSettings are rejected with a sentence that names the setting and the remedy;
// what was set after the start fails no request.
func brokenSettings(t *testing.T, open Open, opts *bunstore.Options) {
	p := newPlace(t, open, opts)
	for _, broken := range []struct{ setting, want string }{
		{`synchronous_commit = off`, "synchronous_commit"},
		{`statement_timeout = '999ms'`, "statement_timeout = 999ms"},
		{`lock_timeout = '999ms'`, "lock_timeout = 999ms"},
		{`idle_in_transaction_session_timeout = '999ms'`, "idle_in_transaction_session_timeout = 999ms"},
		{`default_transaction_read_only = on`, "read-only"},
	} {
		p.alter(`SET ` + broken.setting)
		p.terminate()
		for _, check := range []func(context.Context) error{p.store.Migrate, p.store.Ping} {
			err := check(t.Context())
			require.ErrorContains(t, err, broken.want)
			require.ErrorIs(t, err, webtrigger.ErrUnavailable)
		}
		name, _, _ := strings.Cut(broken.setting, " ")
		p.alter(`RESET ` + name)
		p.terminate()
	}
	require.NoError(t, p.store.Migrate(t.Context()))
	p.cycle()
}
