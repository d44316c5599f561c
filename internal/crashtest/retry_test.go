//go:build unix

package crashtest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/schemas"
)

// A replica is killed between the commit of a trigger and its response. The caller
// repeats the request at another replica and gets the stored trigger.
func TestTrigger_retryAfterKill_returnsStoredTrigger(t *testing.T) {
	t.Parallel()
	r := newRig(t, schemas.Database(t))
	dying := r.start("after create")
	_, _, err := r.post(dying, "k")
	require.Error(t, err)
	select {
	case <-dying.Exited:
	case <-time.After(patience):
		require.FailNow(t, "the replica must have ended")
	}
	stored := r.runs()
	require.Len(t, stored, 1)

	survivor := r.start("")
	for range 2 {
		answer, body, err := r.post(survivor, "k")
		require.NoError(t, err)
		require.Equal(t, http.StatusAccepted, answer.StatusCode, body)
		require.Equal(t, "true", answer.Header.Get("Idempotent-Replayed"))
		require.Contains(t, body, stored[0].Key)
	}
	all := r.settle()
	require.Len(t, all, 1)
	r.end(survivor)
	r.check(all)
}

// post sends one trigger with an idempotency key.
func (r *rig) post(p *process, key string) (answer *http.Response, body string, _ error) {
	sent := fmt.Sprintf(`{"message": "once", "callback_url": %q}`, r.receiver.URL+"/")
	req, err := http.NewRequest(http.MethodPost, p.url+"/api/v1/assistants/1/web-trigger", strings.NewReader(sent))
	if err != nil {
		return nil, "", err
	}
	req.Header = http.Header{"Authorization": {"Bearer " + r.key}, "Content-Type": {"application/json"}, "Idempotency-Key": {key}}
	answer, err = client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer answer.Body.Close()
	read, err := io.ReadAll(answer.Body)
	return answer, string(read), err
}
