package admin_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
)

// TestBulk_moreThanOneCall_continuesAtNext cancels more runs than one call changes.
func TestBulk_moreThanOneCall_continuesAtNext(t *testing.T) {
	t.Parallel()
	h := setup(t)
	const runs = 210
	for range runs {
		h.trigger("1", webtrigger.TriggerRequest{})
	}
	others := h.trigger("2", webtrigger.TriggerRequest{})
	first := h.do("POST /runs/cancel?assistant_id=1", `{"filter":{}}`).decode()
	require.Len(t, first["items"], 200)
	h.trigger("1", webtrigger.TriggerRequest{}) // later than the call began
	second := h.do("POST /runs/cancel?assistant_id=1", `{"filter":{},"cursor":"`+first["next"].(string)+`"}`).decode()
	require.Len(t, second["items"], runs-200)
	require.Nil(t, second["next"])
	left, err := h.svc.Runs(h.ctx, webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{webtrigger.RunQueued}})
	require.NoError(t, err)
	require.Equal(t, []int64{runs + 2, others.ID}, []int64{left[0].ID, left[1].ID}, "another assistant's run, and one after the beginning, stay")
}

// TestBulk_unavailableStore_returns503AndChangesNothing reports an error that is about no resource.
func TestBulk_unavailableStore_returns503AndChangesNothing(t *testing.T) {
	t.Parallel()
	h := setup(t, func(h *host, _ *admin.Options) { h.front = failing{h.store, webtrigger.ErrUnavailable} })
	h.trigger("1", webtrigger.TriggerRequest{})
	require.Equal(t, http.StatusServiceUnavailable, h.do("POST /runs/cancel", `{"filter":{}}`).Status)
}

// Postgres has no year 0, so a call that compared with it would be a 500.
func TestTimes_yearZero_areRejected(t *testing.T) {
	t.Parallel()
	h := setup(t)
	task, err := h.svc.CreateTaskDefinition(h.ctx, webtrigger.TaskDefinition{AssistantID: "1", Name: "n", Instructions: "i"})
	require.NoError(t, err)
	const early, late = "0000-01-01T00:00:00+00:00", "9999-12-31T23:59:59-14:00"
	for _, call := range []string{"POST /runs/cancel", "POST /runs/repeat", "POST /runs/redeliver", "POST /deliveries/redeliver"} {
		answer := h.do(call, `{"filter":{"from":"`+early+`","to":"`+late+`"}}`)
		require.Equal(t, http.StatusUnprocessableEntity, answer.Status, call)
		require.Contains(t, answer.Body, `/filter/from`, call)
		require.Contains(t, answer.Body, `/filter/to`, call)
	}
	path := fmt.Sprintf("PUT /tasks/%d", task.ID)
	body := `{"name":"n","instructions":"i"}`
	require.Equal(t, http.StatusPreconditionFailed, h.do(path, body, "If-Match", `"`+early+`"`).Status)
}

// TestRepeatRun_endedRun_hasTheSameInputAndNoKey also continues a conversation by its key.
func TestRepeatRun_endedRun_hasTheSameInputAndNoKey(t *testing.T) {
	t.Parallel()
	h := setup(t)
	req := webtrigger.TriggerRequest{Message: "m", Subject: "s", Context: []byte(`{"a":1e22}`), Metadata: []byte(`[-0]`),
		CallbackURL: "https://hooks.example.com/in", ConversationKey: "ticket"}
	run := h.trigger("1", req)
	_, err := h.svc.RepeatRun(h.ctx, run.ID)
	require.ErrorIs(t, err, webtrigger.ErrConflict, "an unfinished run cannot be repeated")
	h.end(webtrigger.Outcome{Status: webtrigger.RunFailed})
	again, err := h.svc.RepeatRun(h.ctx, run.ID)
	require.NoError(t, err)
	require.Equal(t, run.ConversationID, again.ConversationID)
	require.Equal(t, run.CallbackURL, again.CallbackURL)
	require.Equal(t, run.BaseURL, again.BaseURL)
	want, err := h.svc.RunInput(h.ctx, run.ID)
	require.NoError(t, err)
	got, err := h.svc.RunInput(h.ctx, again.ID)
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, err = h.svc.RepeatRun(h.ctx, 99)
	require.ErrorIs(t, err, webtrigger.ErrNotFound)
}
