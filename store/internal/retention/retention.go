// Package retention answers what stores ask about [webtrigger.Retention] when
// they purge.
package retention

import (
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Age returns how long a trigger is kept whose run ended with the status. Zero
// means forever.
func Age(keep webtrigger.Retention, status webtrigger.RunStatus) time.Duration {
	switch status {
	case webtrigger.RunCompleted:
		return keep.Completed
	case webtrigger.RunFailed:
		return keep.Failed
	case webtrigger.RunCancelled:
		return keep.Cancelled
	case webtrigger.RunTimedOut:
		return keep.TimedOut
	}
	return 0
}

// Shortest returns the smallest age at which data is purged. Zero means that
// nothing is purged.
func Shortest(keep webtrigger.Retention) time.Duration {
	var shortest time.Duration
	for _, age := range []time.Duration{keep.Events, keep.Completed, keep.Failed, keep.Cancelled, keep.TimedOut} {
		if age > 0 && (shortest == 0 || age < shortest) {
			shortest = age
		}
	}
	return shortest
}
