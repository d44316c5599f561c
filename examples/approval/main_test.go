package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/webtriggertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger records what was paid.
type ledger struct {
	mu   sync.Mutex
	paid []refund
}

func (l *ledger) pay(_ context.Context, r refund) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paid = append(l.paid, r)
	return "R-" + strconv.Itoa(len(l.paid)), nil
}

func (l *ledger) all() []refund {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]refund(nil), l.paid...)
}

// desk is the example as its users have it.
type desk struct {
	t      *testing.T
	bank   *ledger
	url    string
	client *client.Client
}

func newDesk(t *testing.T) *desk {
	bank := &ledger{}
	svc := webtriggertest.New(t, &webtriggertest.Options{Runner: assistant{bank}})
	handler, err := newServer(svc.Service, authorize)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	_, key, err := svc.CreateKey(t.Context(), webtriggertest.Assistant, webtrigger.KeySpec{Name: "Desk", Scopes: webtrigger.AllScopes()})
	require.NoError(t, err)
	c, err := client.New(server.URL, key, &client.Options{HTTPClient: server.Client()})
	require.NoError(t, err)
	return &desk{t, bank, server.URL, c}
}

// waiting triggers a refund and returns the request that its run waits for.
func (d *desk) waiting(order string) (triggerID int64, request *client.InputRequest) {
	accepted, err := d.client.Trigger(d.t.Context(), webtriggertest.Assistant, client.TriggerRequest{Message: order})
	require.NoError(d.t, err)
	require.Eventually(d.t, func() bool {
		status, err := d.client.Status(d.t.Context(), accepted.TriggerID)
		require.NoError(d.t, err)
		request = status.InputRequest
		return request != nil
	}, 30*time.Second, 5*time.Millisecond)
	return accepted.TriggerID, request
}

func (d *desk) result(triggerID int64) string {
	status, err := d.client.Wait(d.t.Context(), triggerID)
	require.NoError(d.t, err)
	require.Equal(d.t, "completed", status.Status)
	return *status.Result
}

func TestApproval_approvedByAPI_paysOnceWhatWasShown(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	id, request := d.waiting("A-17")
	require.Equal(t, "refund", *request.Tool)
	require.JSONEq(t, `{"order": "A-17", "cents": 1250}`, string(request.Arguments))
	require.Empty(t, d.bank.all())
	for range 2 { // the same answer again is accepted
		require.NoError(t, d.client.Answer(t.Context(), id, client.InputAnswer{RequestID: request.ID, Decision: "approve"}))
	}
	require.Equal(t, "Refunded 1250 cents, receipt R-1.", d.result(id))
	require.Equal(t, []refund{{"A-17", 1250}}, d.bank.all())
}

func TestApproval_deniedInTheConsole_paysNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	id, request := d.waiting("A-18")
	body := `{"request_id": ` + strconv.FormatInt(request.ID, 10) + `, "decision": "deny", "reason": "Not this customer."}`
	response, err := http.Post(d.url+"/admin/api/runs/"+strconv.FormatInt(id, 10)+"/input", "application/json", strings.NewReader(body))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusAccepted, response.StatusCode)
	require.Equal(t, "Not refunded. Not this customer.", d.result(id))
	require.Empty(t, d.bank.all())
}
