package replicatest_test

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// revocations is how many keys TestRevocation races for: WEBTRIGGER_REVOCATIONS, else
// 1,000.
func revocations(t *testing.T) int {
	t.Helper()
	text := os.Getenv("WEBTRIGGER_REVOCATIONS")
	if text == "" {
		return 1000
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// No request that begins after a revocation has returned is let in, on whichever
// replica, though others of the same key are under way everywhere and share their
// reads of the database.
func TestRevocation(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil, webtrigger.Options{NoWorkers: true}, nil)
	n := revocations(t)
	keys := s.keys(n)
	var next, before, after atomic.Int64 // races begun; requests accepted before, and rejected after
	var done sync.WaitGroup
	for range 16 {
		done.Go(func() {
			for i := int(next.Add(1)); i <= n && !t.Failed(); i = int(next.Add(1)) {
				if err := s.raceRevocation(keys[i-1], i, &before, &after); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done.Wait()
	require.GreaterOrEqual(t, after.Load(), int64(3*n), "each replica must reject each key")
	require.Positive(t, before.Load(), "keys were good before")
	t.Logf("%d keys: %d requests accepted before, %d rejected after", n, before.Load(), after.Load())
}

// raceKey is an API key of assistant 1.
type raceKey struct {
	id     int64
	secret string
}

// keys makes n keys, all at once.
func (s *system) keys(n int) (keys []raceKey) {
	s.t.Helper()
	rows, err := s.db.QueryContext(s.t.Context(), `
		WITH made AS (SELECT lpad(to_hex(i), 64, '0') AS secret FROM generate_series(1, ?) i),
		stored AS (
			INSERT INTO webtrigger_api_keys (assistant_id, name, prefix, hash, created_at)
			SELECT '1', 'Race', left(secret, 8), sha256(secret::bytea), now() FROM made RETURNING id, hash
		)
		SELECT id, secret FROM stored JOIN made ON stored.hash = sha256(made.secret::bytea)`, n)
	require.NoError(s.t, err)
	defer rows.Close()
	for rows.Next() {
		var k raceKey
		require.NoError(s.t, rows.Scan(&k.id, &k.secret))
		keys = append(keys, k)
	}
	require.NoError(s.t, rows.Err())
	require.Len(s.t, keys, n)
	return keys
}

// raceRevocation revokes a key while all replicas are asked with it.
func (s *system) raceRevocation(key raceKey, i int, before, after *atomic.Int64) error {
	ctx := s.t.Context()
	var revoked atomic.Bool
	errs := make([]error, 4)
	together(4, func(j int) {
		if j == 3 {
			_, errs[j] = s.replicas[(i+1)%3].RevokeKey(ctx, key.id)
			revoked.Store(true)
			return
		}
		for {
			late := revoked.Load()
			code := http.StatusUnauthorized
			if j == i%3 { // one of the three triggers
				code = s.replicas[j].ask(ctx, key.secret, http.MethodPost, triggerPath, `{"message":"x"}`).Code
			} else {
				code = s.replicas[j].ask(ctx, key.secret, http.MethodGet, statusPath(webtrigger.Run{ConversationID: 1 << 40}), "").Code
			}
			switch {
			case code == http.StatusAccepted || code == http.StatusNotFound:
				if late {
					errs[j] = fmt.Errorf("key %d was let in by replica %d after it was revoked: %d", key.id, j, code)
					return
				}
				before.Add(1)
			case code != http.StatusUnauthorized:
				errs[j] = fmt.Errorf("key %d on replica %d: %d", key.id, j, code)
				return
			case late:
				after.Add(1)
				return
			}
		}
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
