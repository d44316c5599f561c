package replicatest_test

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// A cancellation that one replica is asked for ends the context of the run on
// another: at once by notification, with the next heartbeat without. Both are
// measured; what is asserted is ten times as long, and more.
func TestCancelAcrossReplicas(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		options *bunstore.Options
		lease   time.Duration // heartbeats come each third of it, or each 2 s
		rounds  int
		within  time.Duration
	}{
		{"with notifications", nil, time.Minute, 9, time.Second},
		{"without notifications", &bunstore.Options{NoNotify: true}, 3 * time.Second, 3, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			started, ended := make(chan webtrigger.Run, 1), make(chan time.Time, 1)
			s := newSystem(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
				started <- task.Run
				<-ctx.Done()
				ended <- time.Now()
				return nil, context.Cause(ctx)
			}, webtrigger.Options{Workers: 1, Lease: c.lease}, c.options)
			front, back := s.replicas[0], s.replicas[1]
			s.work(back)
			var took []time.Duration
			for i := range c.rounds {
				back.trigger(t, strconv.Itoa(i))
				run := <-started
				asked := time.Now()
				w := front.ask(t.Context(), s.secret, http.MethodPost, "/api/v1/web-triggers/"+strconv.FormatInt(run.ConversationID, 10)+"/cancel", "")
				require.Equal(t, http.StatusAccepted, w.Code, w.Body)
				took = append(took, (<-ended).Sub(asked))
				w = front.ask(t.Context(), s.secret, http.MethodGet, statusPath(run), "", "Prefer", "wait=60")
				require.Contains(t, w.Body.String(), `"run_status":"cancelled"`)
			}
			slices.Sort(took)
			t.Logf("from the request to the end of the context: p50 %v, longest %v", took[c.rounds/2], took[c.rounds-1])
			require.Less(t, took[c.rounds/2], c.within)
		})
	}
}
