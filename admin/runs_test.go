package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

func TestPagesHaveEveryRunOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		query string
		pages []int
	}{
		{"", []int{50, 50, 50, 50, 50}},
		{"limit=200", []int{200, 50}},
		{"limit=60", []int{60, 60, 60, 60, 10}},
		{"limit=100&assistant_id=1", []int{100, 25}},
		{"limit=125&assistant_id=2&status=queued", []int{125}},
		{"status=running", []int{0}},
	} {
		t.Run(c.query, func(t *testing.T) {
			t.Parallel()
			h := setup(t)
			for i := range 250 {
				h.trigger([]string{"1", "2"}[i%2], webtrigger.TriggerRequest{})
			}
			var pages []int
			last := int64(251)
			for next := ""; ; {
				page := h.do("GET /runs?"+c.query+"&cursor="+next, "").decode()
				items := page["items"].([]any)
				pages = append(pages, len(items))
				for _, item := range items {
					id, err := item.(map[string]any)["id"].(json.Number).Int64()
					require.NoError(t, err)
					require.Less(t, id, last)
					last = id
				}
				if page["next"] == nil {
					break
				}
				next = page["next"].(string)
				h.trigger("1", webtrigger.TriggerRequest{}) // a newcomer moves nothing
			}
			require.Equal(t, c.pages, pages)
		})
	}
}

func TestRuns_anyJSON_isReturnedUnchanged(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for _, lexeme := range []string{
		`1e22`, `-0`, `0.10`, `123456789012345678901234567890`, `1E+2`, `"<>&\u003c\/\u00e9é😀\ud83d\ude00"`, "\"\u2028\"",
		`{"b":1,"a":[1.0,{"":2e-3}],"é":null}`, `""`, `false`, `[]`, `{}`, `0`,
	} {
		object := `{"z":` + lexeme + `,"a":` + lexeme + `}`
		run := h.trigger("1", webtrigger.TriggerRequest{Context: json.RawMessage(object), Metadata: json.RawMessage(lexeme)})
		a := h.do(fmt.Sprintf("GET /runs/%d", run.ID), "")
		require.Contains(t, a.Body, `"context":`+object+`,"metadata":`+lexeme+`,`)
	}
	run := h.trigger("1", webtrigger.TriggerRequest{Message: "a\u2028<b>\n\"é😀\""})
	got := h.do(fmt.Sprintf("GET /runs/%d", run.ID), "").decode()
	require.Equal(t, "a\u2028<b>\n\"é😀\"", got["message"])
	for _, field := range []string{"context", "metadata", "result", "usage", "task", "key_id", "callback_url"} {
		require.Contains(t, got, field)
		require.Nil(t, got[field], field)
	}
}

func TestRunsOfAKey(t *testing.T) {
	t.Parallel()
	h := setup(t)
	key := h.do("POST /assistants/1/keys", `{"name":"Zapier"}`).decode()
	h.trigger("1", webtrigger.TriggerRequest{})
	bearer := newRequest(t, "POST", "/api/v1/assistants/1/web-trigger", `{"message":"m"}`)
	bearer.Header.Set("Authorization", "Bearer "+key["key"].(string))
	require.Equal(t, http.StatusAccepted, serve(h.svc, bearer).Code)

	runs := h.do("GET /runs?key_id="+key["id"].(json.Number).String(), "").decode()["items"].([]any)
	require.Len(t, runs, 1)
	require.Equal(t, key["id"], runs[0].(map[string]any)["key_id"])
}

func TestCancelOfARunningRun(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.work()
	accepted := h.do("POST /assistants/1/test-trigger", `{"message":"work without end"}`).decode()
	path := "/runs/" + accepted["run_id"].(json.Number).String()
	status := func(want string) func() bool {
		return func() bool { return h.do("GET "+path, "").decode()["status"] == want }
	}
	require.Eventually(t, status("running"), 10*time.Second, 2*time.Millisecond)

	a := h.do("POST "+path+"/cancel", `{"reason":"enough"}`)
	require.Equal(t, http.StatusAccepted, a.Status)
	require.Eventually(t, status("cancelled"), 10*time.Second, 2*time.Millisecond)
	a = h.do("POST "+path+"/cancel", `{"reason":"more than enough"}`)
	require.Equal(t, http.StatusOK, a.Status)
	require.Equal(t, "enough", a.decode()["status_detail"])
}

func TestReasons(t *testing.T) {
	t.Parallel()
	h := setup(t)
	long := strings.Repeat("é", webtrigger.MaxCancelReasonRunes)
	for _, c := range []struct {
		body   string
		status int
		detail any
	}{
		{``, 200, nil},
		{`{}`, 200, nil},
		{`{"reason":null}`, 200, nil},
		{`{"reason":" \n "}`, 200, nil},
		{`{"reason":"` + long + `"}`, 200, long},
		{`{"reason":"` + long + `e"}`, 422, nil},
		{`{"reason":"` + long + `e","more":1}`, 422, nil},
	} {
		run := h.trigger("1", webtrigger.TriggerRequest{})
		a := h.do(fmt.Sprintf("POST /runs/%d/cancel", run.ID), c.body)
		require.Equal(t, c.status, a.Status, c.body)
		if c.status == 200 {
			require.Equal(t, c.detail, a.decode()["status_detail"], c.body)
			continue
		}
		require.Len(t, a.problem().Errors, strings.Count(c.body, ":"), "all faults at once")
		require.Equal(t, "queued", h.do(fmt.Sprintf("GET /runs/%d", run.ID), "").decode()["status"])
	}

	// A body of unknown length may turn out to be none.
	run := h.trigger("1", webtrigger.TriggerRequest{})
	r := newRequest(t, "POST", h.url+fmt.Sprintf("/runs/%d/cancel", run.ID), "")
	r.Body, r.ContentLength = http.NoBody, -1
	r.Header.Set("Content-Type", "application/json")
	require.Equal(t, http.StatusOK, h.send(r).StatusCode)
}

func TestEventsOfARun(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	types := func(call string, headers ...string) (types []string) {
		a := h.do(call, "", headers...)
		require.Equal(t, http.StatusOK, a.Status, a.Body)
		require.Equal(t, "text/event-stream", strings.SplitN(a.Header.Get("Content-Type"), ";", 2)[0])
		for lines := bufio.NewScanner(strings.NewReader(a.Body)); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var event struct {
					EventType string `json:"event_type"`
					RunID     int64  `json:"run_id"`
				}
				require.NoError(t, json.Unmarshal([]byte(data), &event))
				require.EqualValues(t, 3, event.RunID)
				types = append(types, event.EventType)
			}
		}
		return types
	}
	require.Equal(t, []string{"run_queued", "run_started", "run_completed"}, types("GET /runs/3/events"))
	require.Equal(t, []string{"run_completed"}, types("GET /runs/3/events?after_sequence=2"))
	require.Equal(t, []string{"run_completed"}, types("GET /runs/3/events", "Last-Event-ID", "5"))
	require.Equal(t, []string{"run_started", "run_completed"}, types("GET /runs/3/events?run_id=1&after_event_id=2"), "the run of the path applies")
	require.Equal(t, http.StatusNoContent, h.do("GET /runs/3/events?after_sequence=3", "").Status)
	require.Equal(t, http.StatusBadRequest, h.do("GET /runs/3/events?after_sequence=x", "").Status)
	require.Equal(t, http.StatusBadRequest, h.do("GET /runs/3/events?after_sequence=%zz", "").Status)
}

// TestStreamOutlivesTheCall watches a run from before its end.
func TestStreamOutlivesTheCall(t *testing.T) {
	t.Parallel()
	h := setup(t)
	run := h.trigger("1", webtrigger.TriggerRequest{})
	r := newRequest(t, "GET", h.url+fmt.Sprintf("/runs/%d/events", run.ID), "")
	response := h.send(r)
	lines := bufio.NewScanner(response.Body)
	read := func(want string) {
		for lines.Scan() {
			if strings.Contains(lines.Text(), `"event_type":"`+want+`"`) {
				return
			}
		}
		require.Fail(t, "the stream ended before "+want)
	}
	read("run_queued")
	h.do(fmt.Sprintf("POST /runs/%d/cancel", run.ID), "")
	read("cancel_requested")
	read("run_cancelled")
	for lines.Scan() {
		require.NotContains(t, lines.Text(), "data:")
	}
	require.NoError(t, lines.Err())
}

// work runs Work until the test ends.
func (h *host) work() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.ctx))
	done := make(chan error, 1)
	go func() { done <- h.svc.Work(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		require.NoError(h.t, <-done)
	})
}

func TestMessages_toolCalls_areShown(t *testing.T) {
	t.Parallel()
	h := setup(t)
	run := h.trigger("1", webtrigger.TriggerRequest{})
	_, err := h.store.FinishRun(h.ctx, h.take().Lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "done"},
		Messages: []webtrigger.NewMessage{
			{Role: webtrigger.RoleAssistant, ToolCalls: []webtrigger.ToolCall{{ID: "c1", Name: "search", Arguments: json.RawMessage(`{"n":1}`)}}},
			{Role: webtrigger.RoleTool, Content: "found", ToolCallID: "c1"}}})
	require.NoError(t, err)
	a := h.do(fmt.Sprintf("GET /conversations/%d/messages", run.ConversationID), "")
	require.Equal(t, http.StatusOK, a.Status)
	require.Contains(t, a.Body, `"role":"assistant","content":"","tool_calls":[{"id":"c1","name":"search","arguments":{"n":1}}],`)
	require.Contains(t, a.Body, `"role":"tool","content":"found","tool_call_id":"c1",`)
}
