package streamtest_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/streamtest"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// TestSimulationStreams has subscribers connect, drop and reconnect at random
// over two replicas in fake time, once per seed, with reads that are held up and
// hints that are late or lost, so that the windows between replay and live are
// wide open, and with windows and pages so small that everyone falls out of
// them. WEBTRIGGER_SIM_SEEDS sets how many seeds (default 60).
func TestSimulationStreams(t *testing.T) {
	t.Parallel()
	const worlds = 50 // in a bubble
	seeds := 60
	if testing.Short() {
		seeds = 5
	}
	if v := os.Getenv("WEBTRIGGER_SIM_SEEDS"); v != "" {
		var err error
		seeds, err = strconv.Atoi(v)
		require.NoError(t, err)
	}
	for lane := range 2 {
		t.Run(fmt.Sprintf("lane %d", lane), func(t *testing.T) {
			t.Parallel()
			for from := lane; from < seeds && !t.Failed(); from += 2 * worlds {
				synctest.Test(t, func(t *testing.T) {
					for seed := from; seed < min(from+2*worlds, seeds) && !t.Failed(); seed += 2 {
						store := memstore.New(nil)
						streamtest.Subscribers(t, streamtest.Options{
							Stores: []webtrigger.Store{store, store}, Seed: uint64(seed),
							Subscribers: 20, Conversations: 2, Events: 600, Delay: time.Duration(1+seed%7) * 300 * time.Millisecond,
							Page: 1 + seed%11, Memory: 700 * (4 + seed%29), // about 4 to 32 events of each conversation
						})
					}
					time.Sleep(time.Minute) // polls that are held up end
				})
			}
		})
	}
}
