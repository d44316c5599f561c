package webtrigger_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

func TestHistory(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	run := b.trigger("say hello")
	_, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "more", ConversationID: run.ConversationID})
	require.NoError(t, err)

	conversation, err := b.svc.Conversation(b.ctx, run.ConversationID)
	require.NoError(t, err)
	require.Equal(t, "Web trigger", conversation.Subject)
	messages, err := b.svc.Messages(b.ctx, run.ConversationID, 0, 0)
	require.NoError(t, err)
	require.Len(t, messages, 2, "no limit is the default one")
	rest, err := b.svc.Messages(b.ctx, run.ConversationID, messages[0].ID, 1)
	require.NoError(t, err)
	require.Equal(t, messages[1:], rest)

	for _, query := range []webtrigger.RunQuery{{AssistantID: "a\x00"}, {Status: "done"}} {
		runs, err := b.svc.Runs(b.ctx, query)
		require.NoError(t, err)
		require.Empty(t, runs)
	}
	runs, err := b.svc.Runs(b.ctx, webtrigger.RunQuery{AssistantID: "1", Status: webtrigger.RunQueued})
	require.NoError(t, err)
	require.Len(t, runs, 2)
}

func TestCancelRunFromGo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	run := b.trigger("say hello")
	for _, reason := range []string{"a\x00", "\xff", strings.Repeat("é", webtrigger.MaxCancelReasonRunes+1)} {
		_, err := b.svc.CancelRun(b.ctx, run.ID, reason)
		var refused *webtrigger.RequestError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "/reason", refused.Faults[0].Pointer)
	}
	require.Equal(t, webtrigger.RunQueued, b.run(run.ID).Status)

	cancelled, err := b.svc.CancelRun(b.ctx, run.ID, " \n")
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunCancelled, cancelled.Status)
	require.Empty(t, cancelled.StatusDetail)
	require.Equal(t, []string{"run_queued", "cancel_requested", "run_cancelled"}, b.events(run))

	_, err = b.svc.CancelRun(b.ctx, run.ID+1, "")
	require.ErrorIs(t, err, webtrigger.ErrNotFound)
}
