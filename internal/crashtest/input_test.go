//go:build unix

package crashtest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
)

// answer answers the request of a run, and returns the status of the response; 0: there is
// none.
func (r *rig) answer(p *process, runID int64) int {
	inputs, err := r.store.Inputs(r.t.Context(), runID)
	require.NoError(r.t, err)
	require.Len(r.t, inputs, 1)
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("%s/api/v1/web-triggers/%d/input", p.url, runID),
		strings.NewReader(fmt.Sprintf(`{"request_id": %d, "answer": "main"}`, inputs[0].ID)))
	require.NoError(r.t, err)
	req.Header.Set("Authorization", "Bearer "+r.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// The process that has stored an answer is killed before it responds. Another one continues the
// run with the answer, and accepts its repetition.
func TestKill_afterAnswer_anotherProcessContinuesTheRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, schemas.Database(t))
	r.attempts = 2 // the killed process may have claimed the run
	victim := r.start("after answer")
	id := r.send(victim, "ask")
	require.NotZero(t, id)
	require.Eventually(t, func() bool { return r.runs()[0].Status == webtrigger.RunWaiting }, patience, 10*time.Millisecond)
	require.Zero(t, r.answer(victim, id), "no response")
	<-victim.Exited
	survivor := r.start("")
	require.Equal(t, http.StatusAccepted, r.answer(survivor, id))
	all := r.settle()
	r.end(survivor)
	r.check(all)
	run, err := r.store.RunByID(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "main", run.Result)
}
