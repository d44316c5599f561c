package retention_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/internal/retention"
)

func TestAge_byStatus_returnsItsField(t *testing.T) {
	t.Parallel()
	keep := webtrigger.Retention{Events: 1, Completed: 2, Failed: 3, Cancelled: 4, TimedOut: 5}
	for status, want := range map[webtrigger.RunStatus]time.Duration{
		webtrigger.RunCompleted: 2, webtrigger.RunFailed: 3, webtrigger.RunCancelled: 4, webtrigger.RunTimedOut: 5,
		webtrigger.RunQueued: 0, webtrigger.RunRunning: 0,
	} {
		require.Equal(t, want, retention.Age(keep, status), status)
	}
}

func TestShortest_zeroAges_areIgnored(t *testing.T) {
	t.Parallel()
	require.Zero(t, retention.Shortest(webtrigger.Retention{}))
	require.EqualValues(t, 3, retention.Shortest(webtrigger.Retention{Completed: 7, TimedOut: 3}))
	require.EqualValues(t, 2, retention.Shortest(webtrigger.Retention{Events: 2, Failed: 9}))
}
