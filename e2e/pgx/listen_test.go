package pgx_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
	"github.com/webtrigger-go/webtrigger/store/bunstore/pgxlisten"
)

func store(t *testing.T, dsn string, opts *bunstore.Options) *bunstore.Store {
	t.Helper()
	s, err := bunstore.New(open(t, dsn), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

// watch counts the hints until the test ends.
func watch(t *testing.T, s *bunstore.Store) (heard func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	n, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Watch(ctx, func(h webtrigger.Hint) {
			mu.Lock()
			defer mu.Unlock()
			if h.Queued {
				n++
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func trigger(t *testing.T, s *bunstore.Store) {
	t.Helper()
	_, err := s.CreateTrigger(t.Context(), webtrigger.NewTrigger{RunKey: uuid.NewString(), AssistantID: "1",
		Input: webtrigger.RunInput{Message: "m"}, BaseURL: "https://app.example.com"})
	require.NoError(t, err)
}

// With the listener of pgx, a process receives the hints of others, also after its
// connection was cut.
func TestListen_connectionCut_receivesHintsAgain(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	name := server.Database(t)
	dsn := server.DSN(name)
	writer := store(t, dsn, &bunstore.Options{Listen: pgxlisten.Listen(dsn)})
	heard := watch(t, store(t, dsn, &bunstore.Options{Listen: pgxlisten.Listen(dsn)}))
	for range 3 {
		before := heard()
		require.Eventually(t, func() bool { trigger(t, writer); return heard() > before }, time.Minute, 50*time.Millisecond)
		cut, err := server.Psql("postgres", `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = '`+name+`' AND query LIKE 'LISTEN%'`)
		require.NoError(t, err)
		require.NotEqual(t, "0", cut)
	}
}

// Without a listener the store logs it once, with the remedy.
func TestWatch_noListener_isLoggedOnce(t *testing.T) {
	t.Parallel()
	var log logtest.Buffer
	s := store(t, pgtest.Database(t), &bunstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 {
		watch(t, s)
	}
	require.Eventually(t, func() bool { return log.String() != "" }, time.Minute, 10*time.Millisecond)
	for _, word := range []string{"Options.Listen", "pgxlisten", "Options.NoNotify", "Service.Wake"} {
		require.Contains(t, log.String(), word)
	}
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
}
