package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
)

// closed fails the test when a resource itself is read.
type closed struct {
	webtrigger.Store
	t *testing.T
}

func (s closed) RunByID(context.Context, int64) (webtrigger.Run, error) {
	s.t.Error("run was read")
	return webtrigger.Run{}, webtrigger.ErrUnavailable
}

func (s closed) Conversation(context.Context, int64) (webtrigger.Conversation, error) {
	s.t.Error("conversation was read")
	return webtrigger.Conversation{}, webtrigger.ErrUnavailable
}

func (s closed) TaskDefinition(context.Context, int64) (webtrigger.TaskDefinition, error) {
	s.t.Error("task definition was read")
	return webtrigger.TaskDefinition{}, webtrigger.ErrUnavailable
}

func (s closed) Delivery(context.Context, int64) (webtrigger.Delivery, error) {
	s.t.Error("delivery was read")
	return webtrigger.Delivery{}, webtrigger.ErrUnavailable
}

// A request without permission reads no resource, only whose it is.
func TestGuard_denied_readsOnlyTheOwner(t *testing.T) {
	t.Parallel()
	h := setup(t, func(h *host, _ *admin.Options) { h.front = closed{h.store, t} })
	run := h.trigger("1", webtrigger.TriggerRequest{Message: "x"})
	task, err := h.store.CreateTaskDefinition(t.Context(), webtrigger.TaskDefinition{AssistantID: "1", Name: "n", Instructions: "i", OutputType: webtrigger.OutputText})
	require.NoError(t, err)
	for _, call := range []string{
		fmt.Sprintf("GET /runs/%d", run.ID), fmt.Sprintf("POST /runs/%d/cancel", run.ID), fmt.Sprintf("GET /runs/%d/events", run.ID),
		fmt.Sprintf("GET /runs/%d/deliveries", run.ID), fmt.Sprintf("GET /tasks/%d", task.ID), fmt.Sprintf("PUT /tasks/%d", task.ID),
		fmt.Sprintf("DELETE /tasks/%d", task.ID), "POST /deliveries/1/redeliver",
	} {
		require.Equal(t, http.StatusUnauthorized, h.do(call, "", "X-User", "").Status, call)
		require.Equal(t, http.StatusNotFound, h.do(call, "", "X-User", "of-none").Status, call)
	}
}
