//go:build n8n

package recipes_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// The workflow that asks and waits has the result of a run that takes a while.
func TestN8NPolls(t *testing.T) {
	n := newN8N(t)
	h := newHost(t, 3*time.Second, n.roots())
	n.load("n8n-poll.json", h.url, h.key)
	n.start()
	status, data := n.executed()
	require.Equal(t, "success", status, data)
	require.Contains(t, data, "Done: Write the nightly report.")
}

// The workflow receives the result of a run that takes a while, and of a run that ends
// before n8n waits: n8n rejects that callback with 409, and the retry policy sends it
// again.
func TestN8NIsCalledBack(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration
		codes []int
	}{
		"late":  {3 * time.Second, []int{http.StatusOK}},
		"early": {0, []int{http.StatusConflict, http.StatusOK}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newN8N(t)
			h := newHost(t, c.takes, n.roots())
			n.load("n8n-callback.json", h.url, h.key)
			n.start()
			status, data := n.executed()
			require.Equal(t, "success", status, data)
			require.Contains(t, data, "Done: Write the nightly report.")
			deliveries, err := h.svc.Deliveries(t.Context(), 1)
			require.NoError(t, err)
			var codes []int
			for _, d := range deliveries {
				codes = append(codes, d.HTTPStatus)
			}
			require.Equal(t, c.codes, codes)
		})
	}
}

// A workflow whose run fails is an execution that fails, with the reason.
func TestN8NFails(t *testing.T) {
	for _, file := range []string{"n8n-poll.json", "n8n-callback.json"} {
		t.Run(file, func(t *testing.T) {
			n := newN8N(t)
			h := newHost(t, 3*time.Second, n.roots())
			n.message = "fail"
			n.load(file, h.url, h.key)
			n.start()
			status, data := n.executed()
			require.Equal(t, "error", status, data)
			require.Contains(t, data, "asked to fail")
		})
	}
}

// Two messages of one ticket start one conversation. The second run gets the messages of
// the first.
func TestN8NContinuesTicket(t *testing.T) {
	n := newN8N(t)
	h := newHost(t, time.Second, n.roots())
	n.load("n8n-ticket.json", h.url, h.key)
	n.start()
	for i, message := range []string{"The invoice is wrong.", "It is still wrong."} {
		n.post("web-trigger-ticket", map[string]any{"ticket": 4711, "message": message})
		require.Eventually(t, func() bool {
			runs, err := h.svc.Runs(t.Context(), webtrigger.RunQuery{AssistantID: "1"})
			require.NoError(t, err)
			return len(runs) == i+1 && runs[0].Status == webtrigger.RunCompleted
		}, patience, 100*time.Millisecond)
	}
	status, data := n.executed()
	require.Equal(t, "success", status, data)
	require.Contains(t, data, "Done: The invoice is wrong.")
	conversations, err := h.svc.Conversations(t.Context(), webtrigger.ConversationQuery{Key: "ticket 4711"})
	require.NoError(t, err)
	require.Len(t, conversations, 1)
	messages, err := h.svc.Messages(t.Context(), webtrigger.MessageQuery{ConversationID: conversations[0].ID})
	require.NoError(t, err)
	var said []string
	for _, m := range messages {
		said = append(said, m.Content)
	}
	require.Equal(t, []string{"The invoice is wrong.", "Done: The invoice is wrong.", "It is still wrong.", "Done: It is still wrong."}, said)
}
