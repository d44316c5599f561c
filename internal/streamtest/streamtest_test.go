package streamtest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/streamtest"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Two replicas on the memory store.
func TestSubscribers(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	o := streamtest.Options{Stores: []webtrigger.Store{store, store}, Seed: 1}
	if testing.Short() {
		o.Subscribers, o.Conversations, o.Events = 100, 5, 5000
	}
	t.Log(streamtest.Subscribers(t, o))
}
