package webtrigger

import (
	"fmt"
	"net/http"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// serveCancel cancels a trigger's run for its assistant's API keys, as
// [Service.CancelRun] does. The request's body is not looked at. The answer is
// 202 while the run winds up, which may be repeated, and 200 with the status body
// once the run has ended: at once when it was queued.
func (s *Service) serveCancel(w http.ResponseWriter, r *http.Request, segment string) error {
	if err := allowMethods(r, http.MethodPost); err != nil {
		return err
	}
	triggerID, ok := parseID(segment)
	grant, err := s.authenticate(r, triggerID)
	if err != nil {
		return err
	}
	if !ok || grant.Run == nil {
		return wire.NotFound()
	}
	run := *grant.Run
	if !run.Status.Terminal() {
		if run, err = s.CancelRun(r.Context(), run.ID, ""); err != nil {
			return err
		}
	}
	if !run.Status.Terminal() {
		w.Header().Set("Location", run.StatusURL())
		w.Header().Set("Retry-After", "1")
		return wire.WriteJSON(w, http.StatusAccepted, struct {
			Status string `json:"status"`
		}{"cancel_requested"})
	}
	body, err := statusBody(&run)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	wire.WriteBody(w, http.StatusOK, "application/json", body)
	return nil
}
