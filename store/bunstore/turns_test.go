package bunstore_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// fillDeliveries stores n pending deliveries of as many hosts. The first half belongs
// to one assistant, the rest to other ones, as many as assistants.
func fillDeliveries(t *testing.T, db *bun.DB, n, assistants int, due string) {
	t.Helper()
	for _, text := range []string{
		`DELETE FROM webtrigger_deliveries`, `DELETE FROM webtrigger_runs`,
		fmt.Sprintf(`INSERT INTO webtrigger_runs (id, run_key, conversation_id, assistant_id, key_id, base_url, callback_url, callback_host,
				trace_parent, request_id, subject, message, message_id, first_event_id, created_at)
			SELECT i, gen_random_uuid(), i, CASE WHEN i > %[1]d / 2 THEN 'assistant-' || i %% %[2]d ELSE 'flood' END, 0, 'b',
				'https://h' || i || '/', 'h' || i || ':443', '', '', '', 'm', 1, 1, now() FROM generate_series(1, %[1]d) i`, n, assistants),
		`INSERT INTO webtrigger_ends (run_id, token, last_sequence, started_sequence, last_message_id, result_message_id, completed_at, started_at,
				attempts, status, status_detail, error_message, result)
			SELECT id, 1, 3, 2, 2, 2, now(), now(), 1, 'completed', '', '', 'r' FROM webtrigger_runs ON CONFLICT DO NOTHING`,
		`INSERT INTO webtrigger_deliveries (run_id, assistant_id, host, state, retry, created_at, due_at)
			SELECT id, assistant_id, callback_host, 'pending', 0, now(), now() + ` + due + ` + id * interval '1 microsecond' FROM webtrigger_runs`,
	} {
		_, err := db.ExecContext(t.Context(), text)
		require.NoError(t, err, text)
	}
}

// leaseTime is how long LeaseDeliveries takes, the median of some calls.
func leaseTime(t *testing.T, s *bunstore.Store, claim webtrigger.DeliveryQuery) (median time.Duration, leased []webtrigger.LeasedDelivery) {
	t.Helper()
	var times []time.Duration
	for range 15 {
		claim.Token, claim.Lease = webtrigger.NewToken(), time.Hour
		began := time.Now()
		some, err := s.LeaseDeliveries(t.Context(), claim)
		require.NoError(t, err)
		times = append(times, time.Since(began))
		leased = append(leased, some...)
	}
	slices.Sort(times)
	return times[len(times)/2], leased
}

// With many pending deliveries of as many hosts, a lease looks at some of them. The
// deliveries of the other assistants do not wait for the one that has half of them.
// With WEBTRIGGER_PENDING=50000 and -v it shows how long a lease takes beside so many.
func TestLeaseDeliveries_manyHosts_looksAtSome(t *testing.T) {
	t.Parallel()
	pending := 2000
	if many := os.Getenv("WEBTRIGGER_PENDING"); many != "" {
		var err error
		pending, err = strconv.Atoi(many)
		require.NoError(t, err)
	}
	db := postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	claim := webtrigger.DeliveryQuery{Limit: 8, Reserved: 4, PerHost: 8, PerAssistant: 8, Alone: 32}
	for range 10 { // the statement is prepared
		_, _ = leaseTime(t, s, claim)
	}
	for _, c := range []struct {
		what       string
		pending    int
		assistants int
		due        string
	}{
		{"none", 0, 1, "interval '0'"},
		{"100, due", 100, 10, "interval '-1 hour'"},
		{"all in an hour", pending, pending / 5, "interval '1 hour'"},
		{"all due, few assistants", pending, 4, "interval '-1 hour'"},
		{"all due, many assistants", pending, pending / 5, "interval '-1 hour'"},
	} {
		fillDeliveries(t, db, c.pending, c.assistants, c.due)
		took, leased := leaseTime(t, s, claim)
		t.Logf("%6d pending, %-25s %.2f ms, %d leased", c.pending, c.what+":", float64(took.Microseconds())/1000, len(leased))
		_, err := db.ExecContext(t.Context(), `ANALYZE webtrigger_deliveries`)
		require.NoError(t, err)
		if c.assistants < 100 || c.due == "interval '1 hour'" {
			continue
		}
		flood := 0
		for _, d := range leased {
			if d.Delivery.AssistantID == "flood" {
				flood++
			}
		}
		require.Positive(t, flood)
		require.LessOrEqual(t, flood, 15, "one of each result")
	}
}

// A lease reads at most 16 MiB of results. Deliveries beyond that are not leased.
func TestLeaseDeliveries_largeResults_boundsTheirBytes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		s := migrated(t, open(), nil)
		for range 18 {
			accepted, err := s.CreateTrigger(t.Context(), callbackTrigger())
			require.NoError(t, err)
			_, err = s.FinishRun(t.Context(), claimed(t, s, accepted.Run.ID).Lease, webtrigger.Finish{
				Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: strings.Repeat("r", 1<<20)}})
			require.NoError(t, err)
		}
		for _, want := range []int{16, 2, 0} {
			leased, err := s.LeaseDeliveries(t.Context(), webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: time.Hour, Limit: 32})
			require.NoError(t, err)
			require.Len(t, leased, want)
		}
	})
}
