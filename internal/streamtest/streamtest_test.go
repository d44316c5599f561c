package streamtest_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/racing"
	"github.com/webtrigger-go/webtrigger/internal/streamtest"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func TestMain(m *testing.M) {
	racing.OneProcessor()
	goleak.VerifyTestMain(m)
}

// Two replicas on the memory store. WEBTRIGGER_STREAM_EVENTS sets how many events,
// for a hundred of which there is one subscriber; `make streams-long` has 100000.
func TestSubscribers(t *testing.T) {
	t.Parallel()
	events := 20_000
	if testing.Short() {
		events = 10_000
	}
	if v := os.Getenv("WEBTRIGGER_STREAM_EVENTS"); v != "" {
		var err error
		events, err = strconv.Atoi(v)
		require.NoError(t, err)
	}
	store := memstore.New(nil)
	t.Log(streamtest.Subscribers(t, streamtest.Options{
		Stores: []webtrigger.Store{store, store}, Seed: 1,
		Events: events, Subscribers: max(events/100, 20), Conversations: max(events/2000, 2),
	}))
}
