package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// call is one call of the API on the resources that fill has created for assistant 1.
type call struct {
	call, body string
	want       webtrigger.Access // the expected question to the authorizer
	elsewhere  string            // the same call on a resource that does not exist; "": it names none
}

func (c call) write() bool { return !strings.HasPrefix(c.call, "GET ") }

func calls() []call {
	const task = `{"name":"n","instructions":"i"}`
	about := func(action webtrigger.Action, conversationID int64) webtrigger.Access {
		return webtrigger.Access{Action: action, AssistantID: "1", ConversationID: conversationID}
	}
	all := func(action webtrigger.Action) webtrigger.Access { return webtrigger.Access{Action: action} }
	return []call{
		{"GET /assistants", "", all("assistants.read"), ""},
		{"GET /tools", "", all("tasks.read"), ""},
		{"GET /assistants/1/channel", "", about("channel.read", 0), "GET /assistants/%20/channel"},
		{"PUT /assistants/1/channel", `{"enabled":false,"allow_callback_urls":false}`, about("channel.write", 0), "PUT /assistants/%20/channel"},
		{"GET /assistants/1/signing-secrets", "", about("secrets.read", 0), "GET /assistants/%20/signing-secrets"},
		{"PUT /assistants/1/signing-secrets", `{"secrets":[]}`, about("secrets.write", 0), "PUT /assistants/%20/signing-secrets"},
		{"GET /assistants/1/keys", "", about("keys.read", 0), "GET /assistants/%20/keys"},
		{"POST /assistants/1/keys", `{"name":"n"}`, about("keys.write", 0), "POST /assistants/%20/keys"},
		{"GET /keys", "", all("keys.read"), ""},
		{"GET /keys?assistant_id=1", "", about("keys.read", 0), ""},
		{"GET /keys/2", "", about("keys.read", 0), "GET /keys/99"},
		{"POST /keys/2/rotate", `{"grace_period":60}`, about("keys.write", 0), "POST /keys/99/rotate"},
		{"POST /keys/2/revoke", "", about("keys.write", 0), "POST /keys/99/revoke"},
		{"GET /assistants/1/tasks", "", about("tasks.read", 0), "GET /assistants/%20/tasks"},
		{"POST /assistants/1/tasks", task, about("tasks.write", 0), "POST /assistants/%20/tasks"},
		{"GET /tasks", "", all("tasks.read"), ""},
		{"GET /tasks?assistant_id=1", "", about("tasks.read", 0), ""},
		{"GET /tasks/3", "", about("tasks.read", 0), "GET /tasks/99"},
		{"PUT /tasks/3", task, about("tasks.write", 0), "PUT /tasks/99"},
		{"DELETE /tasks/3", "", about("tasks.write", 0), "DELETE /tasks/99"},
		{"POST /assistants/1/test-trigger", `{"message":"m"}`, about("runs.write", 0), "POST /assistants/%20/test-trigger"},
		{"POST /assistants/1/test-callback", `{"callback_url":"https://10.0.0.1/"}`, about("deliveries.write", 0), "POST /assistants/%20/test-callback"},
		{"GET /runs", "", all("runs.read"), ""},
		{"GET /runs?assistant_id=1", "", about("runs.read", 0), ""},
		{"GET /runs?assistant_id=%20", "", all("runs.read"), ""},
		{"GET /runs?assistant_id=1&assistant_id=2", "", all("runs.read"), ""},
		{"GET /runs/3", "", about("runs.read", 2), "GET /runs/99"},
		{"POST /runs/3/cancel", `{"reason":"r"}`, about("runs.write", 2), "POST /runs/99/cancel"},
		{"GET /queue", "", all("queue.read"), ""},
		{"GET /conversations", "", all("conversations.read"), ""},
		{"GET /conversations?assistant_id=1", "", about("conversations.read", 0), ""},
		{"GET /stats", "", all("stats.read"), ""},
		{"GET /stats?assistant_id=1", "", about("stats.read", 0), ""},
		{"GET /audit", "", all("audit.read"), ""},
		{"GET /data", "", all("data.read"), ""},
		{"GET /conversations/2", "", about("conversations.read", 2), "GET /conversations/99"},
		{"GET /conversations/2/messages", "", about("conversations.read", 2), "GET /conversations/99/messages"},
		{"DELETE /conversations/2", "", about("conversations.erase", 2), "DELETE /conversations/99"},
		{"GET /runs/3/events", "", about("events.read", 2), "GET /runs/99/events"},
		{"GET /runs/3/deliveries", "", about("deliveries.read", 2), "GET /runs/99/deliveries"},
		{"GET /runs/counts", "", all("runs.read"), ""},
		{"GET /runs/counts?assistant_id=1", "", about("runs.read", 0), ""},
		{"POST /runs/cancel", `{"filter":{}}`, all("runs.write"), ""},
		{"POST /runs/cancel?assistant_id=1", `{"ids":[99]}`, about("runs.write", 0), ""},
		{"POST /runs/repeat", `{"ids":[2]}`, all("runs.write"), ""},
		{"POST /runs/repeat?assistant_id=1", `{"ids":[2]}`, about("runs.write", 0), ""},
		{"POST /runs/redeliver", `{"ids":[3]}`, all("deliveries.write"), ""},
		{"POST /runs/redeliver?assistant_id=1", `{"ids":[3]}`, about("deliveries.write", 0), ""},
		{"GET /deliveries", "", all("deliveries.read"), ""},
		{"GET /deliveries?assistant_id=1", "", about("deliveries.read", 0), ""},
		{"GET /deliveries/counts", "", all("deliveries.read"), ""},
		{"GET /deliveries/counts?assistant_id=1", "", about("deliveries.read", 0), ""},
		{"POST /deliveries/redeliver", `{"ids":[2]}`, all("deliveries.write"), ""},
		{"POST /deliveries/redeliver?assistant_id=1", `{"filter":{}}`, about("deliveries.write", 0), ""},
		{"POST /deliveries/2/redeliver", "", about("deliveries.write", 2), "POST /deliveries/99/redeliver"},
	}
}

// fill gives assistant 1 key 2, task 3, run 3 of conversation 2 and delivery 2;
// run 2 is its too, and the rest is assistant 2's.
func fill(h *host) {
	h.t.Helper()
	h.do("POST /assistants/2/keys", `{"name":"of 2"}`)
	h.do("POST /assistants/1/keys", `{"name":"of 1"}`)
	for _, id := range []string{"2", "2", "1"} {
		h.do("POST /assistants/"+id+"/tasks", `{"name":"of `+id+`","instructions":"i"}`)
	}
	const hook = "https://hooks.example.com/in"
	h.trigger("2", webtrigger.TriggerRequest{CallbackURL: hook})
	first := h.trigger("1", webtrigger.TriggerRequest{})
	run := h.trigger("1", webtrigger.TriggerRequest{CallbackURL: hook, ConversationID: first.ConversationID})
	require.EqualValues(h.t, 3, run.ID)
	require.EqualValues(h.t, 2, run.ConversationID)
	for range 3 {
		h.end(webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "done"})
	}
	for range 2 {
		h.deliver(&webtrigger.DeliveryOutcome{State: webtrigger.DeliveryFailed, Error: "timeout"})
	}
	h.asked()
}

func TestAuthorizer_anyCall_getsItsResource(t *testing.T) {
	t.Parallel()
	for _, c := range calls() {
		t.Run(c.call, func(t *testing.T) {
			t.Parallel()
			h := setup(t)
			fill(h)
			h.do(c.call, c.body)
			asked := h.asked()
			require.NotEmpty(t, asked)
			for _, a := range asked { // a stream may ask again
				require.Equal(t, c.want, a)
			}
			if c.elsewhere != "" {
				require.Equal(t, http.StatusNotFound, h.do(c.elsewhere, c.body).Status)
				require.Equal(t, []webtrigger.Access{{Action: c.want.Action}}, h.asked(), "a resource that does not exist has no assistant")
			}
		})
	}
}

func TestAccess_notSignedIn_returns401(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	before := h.everything()
	for _, c := range calls() {
		for _, call := range []string{c.call, c.elsewhere} {
			if call == "" {
				continue
			}
			a := h.do(call, c.body, "X-User", "")
			require.Equal(t, http.StatusUnauthorized, a.Status, call)
			require.Equal(t, "unauthenticated", a.problem().Code, call)
		}
	}
	require.Equal(t, before, h.everything())
}

func TestAccess_resourceOfOtherAssistant_looksAbsent(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	before := h.everything()
	const other = "of-2"
	for _, c := range calls() {
		theirs := h.do(c.call, c.body, "X-User", other, "X-Request-Id", "same")
		require.Equal(t, http.StatusNotFound, theirs.Status, c.call)
		theirs.Header.Del("Date")
		absent := h.do("GET /nothing", "", "X-User", other, "X-Request-Id", "same")
		if c.elsewhere != "" {
			absent = h.do(c.elsewhere, c.body, "X-User", other, "X-Request-Id", "same")
		}
		absent.Header.Del("Date")
		require.Equal(t, absent, theirs, c.call)
	}
	require.Equal(t, before, h.everything())

	// The response to an invalid body or query must be the same for both.
	for _, call := range []string{"PUT /tasks/3", "POST /runs/3/cancel", "GET /runs/3/events?after_event_id=x"} {
		theirs := h.do(call, "{", "X-User", other)
		absent := h.do(strings.Replace(call, "/3", "/99", 1), "{", "X-User", other)
		require.Equal(t, absent.Body, theirs.Body, call)
		require.Equal(t, http.StatusNotFound, theirs.Status, call)
	}
}

func TestOwnersReachTheirOwn(t *testing.T) {
	t.Parallel()
	for _, c := range calls() {
		if c.want.AssistantID == "" {
			continue
		}
		t.Run(c.call, func(t *testing.T) {
			t.Parallel()
			h := setup(t)
			fill(h)
			require.Less(t, h.do(c.call, c.body, "X-User", "of-1").Status, 300)
		})
	}
}

func TestCalls_unknownQueryParameter_returns400AndChangesNothing(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	before := h.everything()
	for _, c := range calls() {
		separator := "?"
		if strings.Contains(c.call, "?") {
			separator = "&"
		}
		a := h.do(c.call+separator+"no_such_parameter=1", c.body)
		require.Equal(t, http.StatusBadRequest, a.Status, c.call)
		require.Equal(t, "invalid_query", a.problem().Code, c.call)
	}
	require.Equal(t, before, h.everything())
}

func TestWritesFromOtherOrigins(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	before := h.everything()
	h.asked()
	for _, c := range calls() {
		for _, headers := range [][]string{
			{"Sec-Fetch-Site", "cross-site"},
			{"Sec-Fetch-Site", "same-site"},
			{"Origin", "https://evil.example"},
			{"Origin", "null"},
		} {
			if !c.write() {
				continue
			}
			a := h.do(c.call, c.body, headers...)
			require.Equal(t, http.StatusForbidden, a.Status, "%s %v", c.call, headers)
			require.Equal(t, "cross_origin", a.problem().Code)
		}
	}
	require.Empty(t, h.asked(), "the session does not matter")
	require.Equal(t, before, h.everything())
	require.Equal(t, http.StatusOK, h.do("GET /runs", "", "Sec-Fetch-Site", "cross-site").Status, "reading is the browser's to guard")
	require.Equal(t, http.StatusOK, h.do("POST /keys/2/revoke", "", "Origin", strings.TrimSuffix(h.url, mount)).Status)
}

// everything is all that the API shows of both assistants.
func (h *host) everything() string {
	h.t.Helper()
	var all strings.Builder
	for _, path := range []string{
		"/assistants", "/assistants/1/channel", "/assistants/2/channel", "/assistants/1/keys", "/assistants/2/keys",
		"/assistants/1/tasks", "/assistants/2/tasks", "/runs", "/runs/1/deliveries", "/runs/3/deliveries",
	} {
		all.WriteString(h.do("GET "+path, "").Body + "\n")
	}
	return all.String()
}
