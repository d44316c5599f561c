package bunstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

func newTrigger() webtrigger.NewTrigger {
	return webtrigger.NewTrigger{RunKey: uuid.NewString(), AssistantID: "1",
		Input: webtrigger.RunInput{Subject: "s", Message: "m"}, BaseURL: "https://app.example.com"}
}

// callbackTrigger is a trigger with a callback.
func callbackTrigger() webtrigger.NewTrigger {
	trigger := newTrigger()
	trigger.CallbackURL, trigger.CallbackHost = "https://receiver.example.com/", "receiver.example.com"
	return trigger
}

// opened is a store whose tables stand.
func opened(t *testing.T, db *bun.DB, opts *bunstore.Options) *bunstore.Store {
	t.Helper()
	s, err := bunstore.New(db, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// eventually looks until cond holds, for a minute.
func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, time.Minute, 5*time.Millisecond)
}

// within yields the hints of a channel for at most a minute, and fails the test
// after that.
func within(t *testing.T, heard <-chan webtrigger.Hint) iter.Seq[webtrigger.Hint] {
	return func(yield func(webtrigger.Hint) bool) {
		limit := time.After(time.Minute)
		for {
			select {
			case h := <-heard:
				if !yield(h) {
					return
				}
			case <-limit:
				t.Fatal("waited in vain")
			}
		}
	}
}

func count(t *testing.T, db *bun.DB, text string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(context.WithoutCancel(t.Context()), text).Scan(&n))
	return n
}

const listeners = `FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' AND pid <> pg_backend_pid()`

// awaitBlocked waits until n sessions wait for a lock.
func awaitBlocked(t *testing.T, db *bun.DB, n int) {
	t.Helper()
	eventually(t, func() bool {
		return count(t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) >= n
	})
}

// lockSQLite holds the write lock of a file.
func lockSQLite(t *testing.T, db *bun.DB) (unlock func()) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	require.NoError(t, err)
	return func() {
		_, err := conn.ExecContext(context.Background(), `ROLLBACK`)
		require.NoError(t, errors.Join(err, conn.Close()))
	}
}

// A listener whose connection is lost listens again. It then reports that anything may
// have changed meanwhile.
func TestListener_lostConnection_listensAgain(t *testing.T) {
	t.Parallel()
	dsn := schemas.Database(t)
	db := postgresDB(t, dsn)
	writer := migrated(t, db, nil)
	heard := hints(t, opened(t, postgresDB(t, dsn), nil))
	hear := func() {
		t.Helper()
		stored, tick := make(map[int64]bool), time.NewTicker(50*time.Millisecond)
		defer tick.Stop()
		for limit := time.After(time.Minute); ; {
			select {
			case h := <-heard:
				for _, id := range h.Conversations {
					if stored[id] {
						return
					}
				}
			case <-tick.C: // what is stored while no listener is connected is not received
				stored[stopped(t, writer).ConversationID] = true
			case <-limit:
				t.Fatal("received no hint")
			}
		}
	}
	for range 3 {
		hear()
		require.Positive(t, count(t, db, `SELECT count(pg_terminate_backend(pid)) `+listeners))
	}
	hear()
}

// While another connection holds the lock of an SQLite file, a call tries until its
// deadline. Then it returns ErrUnavailable: 503 over HTTP.
func TestBusySQLite(t *testing.T) {
	t.Parallel()
	ctx, file := t.Context(), memoryDir(t)+"/test.db"
	s := migrated(t, sqliteOpen(t, file), nil)
	svc := service(t, s)
	_, secret, err := svc.CreateKey(ctx, "1", webtrigger.KeySpec{Name: "Name"})
	require.NoError(t, err)
	unlock := lockSQLite(t, sqliteOpen(t, file))

	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	err = s.SetChannel(short, webtrigger.Channel{AssistantID: "2"})
	require.ErrorIs(t, err, webtrigger.ErrUnavailable)
	require.ErrorIs(t, short.Err(), context.DeadlineExceeded, "it gave up early")

	post := func() *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(ctx, "POST", "/api/v1/assistants/1/web-trigger", strings.NewReader(`{"message":"m"}`))
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		svc.ServeHTTP(w, r)
		return w
	}
	s.SetTimeout(200 * time.Millisecond)
	w := post()
	require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body)
	require.NotEmpty(t, w.Header().Get("Retry-After"))

	s.SetTimeout(time.Minute)
	answer := make(chan int, 1)
	go func() { answer <- post().Code }() // waits for the lock
	eventually(t, func() bool { return s.AcceptsUnderWay() == 1 })
	unlock()
	require.Equal(t, http.StatusAccepted, <-answer)
}

// Postgres ends one side of a deadlock; the store does its side again.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	run, first := sent(t, s, "")
	_, err := s.Redeliver(ctx, first)
	require.NoError(t, err)
	second := lastDelivery(t, s, run.ID).ID

	host, err := db.BeginTx(ctx, nil) // takes the locks against the order
	require.NoError(t, err)
	_, err = host.ExecContext(ctx, `SET LOCAL deadlock_timeout = '5min'`) // the other side finds it
	require.NoError(t, err)
	_, err = host.ExecContext(ctx, `SELECT 1 FROM webtrigger_deliveries WHERE id = ? FOR UPDATE`, second)
	require.NoError(t, err)
	redelivered := make(chan error, 1)
	go func() {
		_, err := s.Redeliver(ctx, first)
		redelivered <- err
	}()
	awaitBlocked(t, db, 1)
	_, err = host.ExecContext(ctx, `SELECT 1 FROM webtrigger_deliveries WHERE id = ? FOR UPDATE`, first)
	require.NoError(t, err)
	require.NoError(t, host.Commit())
	require.NoError(t, <-redelivered)
	lastDelivery(t, s, run.ID)
	eventually(t, func() bool {
		return count(t, db, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`) == 1
	})
}

// If the database rejects one trigger of a batch, only that trigger fails.
func TestBadRow(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db, other := t.Context(), open(), open()
		s := migrated(t, db, nil)
		taken := storeTrigger(t, s)
		var unlock func()
		if db.Dialect().Name().String() == "pg" {
			tx, err := other.BeginTx(ctx, &sql.TxOptions{})
			require.NoError(t, err)
			_, err = tx.ExecContext(ctx, `LOCK TABLE webtrigger_runs IN EXCLUSIVE MODE`)
			require.NoError(t, err)
			unlock = func() { require.NoError(t, tx.Rollback()) }
		} else {
			unlock = lockSQLite(t, other)
		}
		type answer struct {
			key string
			err error
		}
		answers := make(chan answer)
		send := func(trigger webtrigger.NewTrigger) {
			go func() {
				_, err := s.CreateTrigger(ctx, trigger)
				answers <- answer{trigger.RunKey, err}
			}()
		}
		eventually(t, func() bool { return s.AcceptsUnderWay() == 0 }) // the first trigger's batch has returned
		send(newTrigger())                                             // keeps the store's worker waiting
		eventually(t, func() bool { return s.AcceptsUnderWay() == 1 })
		const good = 20
		for range good {
			send(newTrigger())
		}
		bad := newTrigger()
		bad.RunKey = taken.Key // unique
		send(bad)
		eventually(t, func() bool { return s.AcceptsWaiting() == good+1 })
		unlock()
		for range 1 + good + 1 {
			switch a := <-answers; a.key {
			case bad.RunKey:
				require.Error(t, a.err)
				require.NotErrorIs(t, a.err, webtrigger.ErrUnavailable)
			default:
				require.NoError(t, a.err)
				_, err := s.RunByKey(ctx, a.key)
				require.NoError(t, err)
			}
		}
		require.Equal(t, 1+1+good, count(t, other, `SELECT count(*) FROM webtrigger_runs`))
	})
}

// A statement that waits for a lock ends with the call's deadline, and leaves
// nothing behind that waits on.
func TestStatementDeadline(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	run := storeTrigger(t, s)
	for name, lock := range map[string]string{
		"row":   fmt.Sprintf(`SELECT 1 FROM webtrigger_queue WHERE run_id = %d FOR UPDATE`, run.ID),
		"table": `LOCK TABLE webtrigger_queue IN ACCESS EXCLUSIVE MODE`,
	} {
		t.Run(name, func(t *testing.T) {
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(ctx, lock)
			require.NoError(t, err)
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			_, err = s.RequestStop(short, run.ID, webtrigger.Stop{Status: webtrigger.RunCancelled}, nil)
			require.Error(t, err)
			require.True(t, errors.Is(err, webtrigger.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded), err)
			require.NoError(t, tx.Rollback())
		})
	}
	run, err := s.RequestStop(ctx, run.ID, webtrigger.Stop{Status: webtrigger.RunCancelled}, nil)
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunCancelled, run.Status)
}
