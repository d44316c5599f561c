//go:build unix

package outagetest_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// A transaction of the host that continues a conversation locks it for longer than a
// lease. No run of the process ends by that: not the one of the conversation either.
func TestLockedConversation_endsNothing(t *testing.T) {
	t.Parallel()
	const n = 10
	server := pgtest.Shared(t)
	p, database := placeOn(t, server)
	store := openStore(t, server.DSN(database))
	a := p.join("a", store, worker(n+1))
	p.join("b", openStore(t, server.DSN(database)), webtrigger.Options{NoWorkers: true})
	p.trigger(a, n, "hold")
	p.awaitRunning(n)

	tx, err := openDB(t, server.DSN(database)).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	continued := p.runs()[0].ConversationID
	_, err = a.TriggerVia(t.Context(), store.Tx(tx), assistant,
		webtrigger.TriggerRequest{Message: "hold", ConversationID: continued, CallbackURL: p.receiver.url()})
	require.NoError(t, err)
	time.Sleep(2 * lease)
	require.Equal(t, map[webtrigger.RunStatus]int{webtrigger.RunRunning: n}, p.tally())
	require.NoError(t, tx.Commit())
	a.Wake()

	time.Sleep(lease)
	p.open()
	require.Equal(t, map[webtrigger.RunStatus]int{webtrigger.RunCompleted: n + 1}, p.settle(n+1))
	p.checkCalledOnce(n + 1)
}

// jumping is a wall clock that is set.
type jumping struct {
	mu sync.Mutex
	by time.Duration
}

func (j *jumping) Now() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return time.Now().Add(j.by)
}

func (j *jumping) jump(by time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.by += by
}

// The wall clock of the one process jumps by a minute, forward and back.
func TestClockJump_endsNothing(t *testing.T) {
	t.Parallel()
	const n = 5
	for name, open := range map[string]func(t *testing.T, clock webtrigger.Clock) webtrigger.Store{
		"memory": func(_ *testing.T, clock webtrigger.Clock) webtrigger.Store {
			return memstore.New(&memstore.Options{Clock: clock})
		},
		"sqlite": func(t *testing.T, clock webtrigger.Clock) webtrigger.Store {
			return openSQLite(t, filepath.Join(t.TempDir(), "jump.db"), &bunstore.Options{Clock: clock})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &jumping{}
			store := open(t, clock)
			p := newPlace(t, store)
			a := p.join("a", store, worker(n))
			p.trigger(a, n, "hold")
			p.awaitRunning(n)
			for _, by := range []time.Duration{time.Minute, -time.Minute, -time.Minute} {
				clock.jump(by)
				time.Sleep(1200 * time.Millisecond) // for sweeps and renewals
				require.Equal(t, map[webtrigger.RunStatus]int{webtrigger.RunRunning: n}, p.tally(), "after %v", by)
			}
			p.trigger(a, 1, "work")
			p.open()
			require.Equal(t, map[webtrigger.RunStatus]int{webtrigger.RunCompleted: n + 1}, p.settle(n+1))
			p.checkCalledOnce(n + 1)
		})
	}
}

// Another program locks the SQLite file for longer than a lease. Nothing ends, and
// what was accepted, before or during the lock, is executed afterwards.
func TestLockedSQLite_endsNothing(t *testing.T) {
	t.Parallel()
	const n = 3
	file := filepath.Join(t.TempDir(), "locked.db")
	store := openSQLite(t, file, nil)
	p := newPlace(t, store)
	a := p.join("a", store, worker(n+2))
	p.trigger(a, n, "hold")
	p.awaitRunning(n)
	a.store.noClaims.Store(true)
	p.trigger(a, 1, "work")

	unlock := lockSQLite(t, file)
	a.store.noClaims.Store(false)
	a.Wake()
	during := make(chan int, 1)
	go func() { during <- p.post(a, "during").Code }()
	time.Sleep(2 * lease)
	unlock()
	code := <-during
	require.Contains(t, []int{http.StatusAccepted, http.StatusServiceUnavailable}, code)
	eventually(t, func() bool { return p.post(a, "during").Code == http.StatusAccepted })

	time.Sleep(lease) // for sweeps
	require.Equal(t, n, p.tally()[webtrigger.RunRunning])
	p.open()
	require.Equal(t, map[webtrigger.RunStatus]int{webtrigger.RunCompleted: n + 2}, p.settle(n+2))
	p.checkCalledOnce(n + 2)
}

func openSQLiteDB(t *testing.T, file string) *bun.DB {
	t.Helper()
	pool, err := sql.Open("sqlite", "file:"+file)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close()) })
	return bun.NewDB(pool, sqlitedialect.New())
}

func openSQLite(t *testing.T, file string, opts *bunstore.Options) *bunstore.Store {
	t.Helper()
	store, err := bunstore.New(openSQLiteDB(t, file), opts)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	return store
}

// lockSQLite has another program hold the write lock of a file.
func lockSQLite(t *testing.T, file string) (unlock func()) {
	t.Helper()
	conn, err := openSQLiteDB(t, file).Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), `PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE`)
	require.NoError(t, err)
	return func() {
		_, err := conn.ExecContext(context.Background(), `ROLLBACK`)
		require.NoError(t, errors.Join(err, conn.Close()))
	}
}
