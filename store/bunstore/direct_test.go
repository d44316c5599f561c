package bunstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
)

// A statement that runs into its deadline leaves an answer behind that no call
// waits for. No other statement must read it as its answer.
func TestLateAnswers(t *testing.T) {
	t.Parallel()
	dsn := schemas.Database(t)
	db := postgresDB(t, dsn)
	store := migrated(t, db, nil)
	db.SetMaxOpenConns(1)
	var conversations []int64
	for _, assistant := range []string{"a", "b"} {
		accepted, err := store.CreateTrigger(t.Context(), webtrigger.NewTrigger{
			RunKey: uuid.NewString(), AssistantID: assistant, Input: webtrigger.RunInput{Message: "go"}, BaseURL: "https://app.example.com",
		})
		require.NoError(t, err)
		conversations = append(conversations, accepted.Run.ConversationID)
	}
	assistants := func() []string {
		var got []string
		for _, id := range conversations {
			c, err := store.Conversation(t.Context(), id)
			require.NoError(t, err)
			got = append(got, c.AssistantID)
		}
		return got
	}
	require.Equal(t, []string{"a", "b"}, assistants())
	for _, late := range []func(ctx context.Context) error{
		func(ctx context.Context) error { _, err := store.Conversation(ctx, conversations[0]); return err },
		func(ctx context.Context) error {
			_, err := store.Events(ctx, webtrigger.EventQuery{ConversationID: conversations[0], Limit: 10})
			return err
		},
	} {
		other, err := postgresDB(t, dsn).BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = other.ExecContext(t.Context(), `LOCK TABLE webtrigger_runs`)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, late(ctx), webtrigger.ErrUnavailable)
		require.NoError(t, other.Rollback())
		require.Equal(t, []string{"a", "b"}, assistants())
		page, err := store.Events(t.Context(), webtrigger.EventQuery{ConversationID: conversations[1], Limit: 10})
		require.NoError(t, err)
		require.Equal(t, conversations[1], page.Events[0].ConversationID)
		require.Equal(t, int64(1), page.LastID)
	}
}

// Connections that the server has closed are replaced, and their prepared statements are
// dropped.
func TestConnectionsThatEnd(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	name := schemas.Name(t)
	db := postgresDB(t, server.DSN(name))
	store := migrated(t, db, nil)
	for range 3 {
		require.NoError(t, store.Ping(t.Context()))
		_, err := server.Psql("postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+name+`'`)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return store.Ping(t.Context()) == nil }, 10*time.Second, 10*time.Millisecond)
	}
	db.SetMaxIdleConns(0)
	for range 20 {
		require.NoError(t, store.Ping(t.Context()))
	}
	require.LessOrEqual(t, store.KnownConnections(), 2)
}
