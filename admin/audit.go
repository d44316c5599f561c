package admin

import (
	"encoding/json"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

type auditView struct {
	ID        int64           `json:"id"`
	At        string          `json:"at"`
	Actor     *string         `json:"actor"` // null: the application itself, or an authorizer that did not name the user
	Action    string          `json:"action"`
	Object    string          `json:"object"`
	RequestID *string         `json:"request_id"`
	Detail    json.RawMessage `json:"detail"` // nil is null
}

func viewAudit(e webtrigger.AuditEntry) auditView {
	return auditView{e.ID, wire.FormatTime(e.At), wire.NullableString(e.Actor), e.Action, e.Object, wire.NullableString(e.RequestID), e.Detail}
}

// listAudit lists the audit log, newest first.
func (h *Handler) listAudit(w http.ResponseWriter, r *http.Request, _ struct{}) error {
	q := readQuery(r)
	query := webtrigger.AuditQuery{
		Actor: q.filterText("actor"), Object: q.filterText("object"), From: q.time("from"), To: q.time("to"),
	}
	return writePage(w, q, func(page webtrigger.Page) ([]webtrigger.AuditEntry, error) {
		query.Page = page
		return h.svc.Audit(r.Context(), query)
	}, func(e webtrigger.AuditEntry) int64 { return e.ID }, viewAudit)
}
