package webtrigger_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// Execute returns when the grace is over, as Work gives a Runner up.
func TestExecute_runnerIgnoresItsContext_isAbandoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil, nil)
		run := b.trigger("ignore")
		ctx, cancel := context.WithTimeout(b.ctx, time.Second)
		defer cancel()
		start := time.Now()
		require.NoError(t, b.svc.Execute(ctx, run.ID))
		require.Equal(t, 6*time.Second, time.Since(start), "one second, and the CancelGrace")
		require.Equal(t, webtrigger.RunFailed, b.run(run.ID).Status)
		time.Sleep(time.Minute) // the Runner returns

		b = setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", RunTimeout: 2 * time.Second})
		run = b.trigger("ignore")
		start = time.Now()
		require.NoError(t, b.svc.Execute(b.ctx, run.ID))
		require.Equal(t, 7*time.Second, time.Since(start), "the RunTimeout, and the CancelGrace")
		require.Equal(t, webtrigger.RunTimedOut, b.run(run.ID).Status)
		time.Sleep(time.Minute)
	})
}
