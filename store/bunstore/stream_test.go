package bunstore_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/internal/streamtest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// TestStreams has subscribers connect, drop and reconnect at random over two
// replicas on one Postgres, each with a pool of its own, with reads that are held
// up and one hint in four lost, so that the windows between replay and live are
// wide open: with NOTIFY, and by polls alone. WEBTRIGGER_STREAM_EVENTS sets how
// many events (default 2000), for a hundred of which there is one subscriber;
// `make streams-long` has 100000.
func TestStreams(t *testing.T) {
	t.Parallel()
	events := 2000
	if v := os.Getenv("WEBTRIGGER_STREAM_EVENTS"); v != "" {
		var err error
		events, err = strconv.Atoi(v)
		require.NoError(t, err)
	}
	for name, opts := range map[string]*bunstore.Options{"notify": nil, "poll": {NoNotify: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := schemas.Database(t)
			o := streamtest.Options{
				Seed: uint64(events), Events: events, Subscribers: max(events/100, 20), Conversations: max(events/2000, 2), Delay: 100 * time.Millisecond,
			}
			o.Stores = []webtrigger.Store{migrated(t, postgresDB(t, dsn), opts), migrated(t, postgresDB(t, dsn), opts)}
			start := time.Now()
			stats := streamtest.Subscribers(t, o)
			t.Logf("%d events, %d subscribers: %v, in %v", events, o.Subscribers, stats, time.Since(start).Round(time.Millisecond))
		})
	}
}
