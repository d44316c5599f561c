package admin_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
)

// TestAudit_anyWrite_hasOneEntryOfItsActor goes through every call of the API.
func TestAudit_anyWrite_hasOneEntryOfItsActor(t *testing.T) {
	t.Parallel()
	for _, c := range calls() {
		t.Run(c.call, func(t *testing.T) {
			t.Parallel()
			h := setup(t)
			fill(h)
			run := h.trigger("1", webtrigger.TriggerRequest{}) // one that can be cancelled
			before := h.auditLog()
			a := h.do(strings.Replace(c.call, "/runs/3/cancel", fmt.Sprintf("/runs/%d/cancel", run.ID), 1), c.body, "X-Request-Id", "this")
			if c.write() {
				require.Less(t, a.Status, 300, a.Body)
			}
			entries := h.auditLog()
			entries = entries[:len(entries)-len(before)]
			if !c.write() || c.call == "POST /assistants/1/test-callback" || strings.Contains(c.body, "99") { // which stores nothing
				require.Empty(t, entries)
				return
			}
			require.Len(t, entries, 1, "a write must have an entry")
			require.Equal(t, []string{"root", "this"}, []string{entries[0].Actor, entries[0].RequestID})
			require.Regexp(t, `^[a-z_]+\.[a-z]+$`, entries[0].Action)
			require.Regexp(t, `^[a-z_]+/\d+$`, entries[0].Object)
		})
	}
}

func (h *host) auditLog() []webtrigger.AuditEntry {
	h.t.Helper()
	entries, err := h.svc.Audit(h.ctx, webtrigger.AuditQuery{Page: webtrigger.Page{Limit: webtrigger.MaxPageSize}})
	require.NoError(h.t, err)
	return entries
}

// TestAudit_secrets_areNotInTheLog looks for what only one response contains.
func TestAudit_secrets_areNotInTheLog(t *testing.T) {
	t.Parallel()
	h := setup(t)
	secret := webtrigger.NewSigningSecret().Reveal()
	created := h.do("POST /assistants/1/keys", `{"name":"Zapier"}`).decode()
	rotated := h.do("POST /keys/1/rotate", `{"grace_period":0}`).decode()
	require.Equal(t, http.StatusOK, h.do("PUT /assistants/1/signing-secrets", fmt.Sprintf(`{"secrets":[%q]}`, secret)).Status)
	shown := h.do("GET /audit", "").Body
	for _, text := range []string{created["key"].(string), rotated["key"].(string), secret, strings.TrimPrefix(secret, "whsec_")} {
		require.NotContains(t, shown, text)
	}
	require.Contains(t, shown, created["prefix"].(string), "the prefix identifies the key")
}

// TestSetActor_lastCallWithinTheRequest_namesTheEntry also cuts and sanitizes names.
func TestSetActor_lastCallWithinTheRequest_namesTheEntry(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for name, want := range map[string]string{"Ada": "Ada", "": "", "a\x00b": "a\uFFFDb", strings.Repeat("x", 300): strings.Repeat("x", 200)} {
		api, err := admin.New(h.svc, func(r *http.Request, _ webtrigger.Access) error {
			webtrigger.SetActor(r, "other")
			webtrigger.SetActor(r.Clone(r.Context()), name)
			return nil
		}, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusCreated, serve(api, newRequest(t, "POST", "/assistants/1/keys", `{"name":"n"}`)).Code)
		require.Equal(t, want, h.auditLog()[0].Actor)
	}
	webtrigger.SetActor(newRequest(t, "GET", "/", ""), "unused") // outside of the administration
}

// TestWithActor_goCall_namesTheEntry also names the user for a request whose authorizer
// does not name them.
func TestWithActor_goCall_namesTheEntry(t *testing.T) {
	t.Parallel()
	h := setup(t)
	_, err := h.svc.RevokeKey(webtrigger.WithActor(h.ctx, "cron"), h.key("1"))
	require.NoError(t, err)
	require.Equal(t, "cron", h.auditLog()[0].Actor)
	require.Empty(t, h.auditLog()[1].Actor, "a call of the application has an entry without an actor")
	api, err := admin.New(h.svc, func(*http.Request, webtrigger.Access) error { return nil }, nil)
	require.NoError(t, err)
	r := newRequest(t, "POST", "/assistants/1/keys", `{"name":"n"}`)
	serve(api, r.WithContext(webtrigger.WithActor(r.Context(), "middleware")))
	require.Equal(t, "middleware", h.auditLog()[0].Actor)
}

// TestTrigger_withoutActor_hasNoEntry keeps everyday triggers out of the log.
func TestTrigger_withoutActor_hasNoEntry(t *testing.T) {
	t.Parallel()
	h := setup(t)
	before := len(h.auditLog())
	h.trigger("1", webtrigger.TriggerRequest{})
	require.Len(t, h.auditLog(), before)
	_, err := h.svc.Trigger(webtrigger.WithActor(h.ctx, "Ada"), "1", webtrigger.TriggerRequest{Message: "m"})
	require.NoError(t, err)
	require.Equal(t, "run/2", h.auditLog()[0].Object)
}

func (h *host) key(assistantID string) int64 {
	h.t.Helper()
	key, _, err := h.svc.CreateKey(h.ctx, assistantID, webtrigger.KeySpec{Name: "n"})
	require.NoError(h.t, err)
	return key.ID
}
