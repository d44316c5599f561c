package admin

import (
	"net/http"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

type deliveryView struct {
	ID    int64 `json:"id"`
	RunID int64 `json:"run_id"`
	attemptView
}

// attemptView is what a test callback, which is of no run, has in common with
// deliveries.
type attemptView struct {
	RunKey      string                   `json:"run_key"`
	URL         string                   `json:"url"`
	State       webtrigger.DeliveryState `json:"state"`
	CreatedAt   string                   `json:"created_at"`
	AttemptedAt *string                  `json:"attempted_at"`
	CompletedAt *string                  `json:"completed_at"`
	HTTPStatus  *int                     `json:"http_status"`
	LatencyMS   *int64                   `json:"latency_ms"`
	Error       *string                  `json:"error"`
	Response    *string                  `json:"response"`
}

func viewDelivery(d webtrigger.Delivery) deliveryView {
	return deliveryView{d.ID, d.RunID, viewAttempt(d)}
}

func viewAttempt(d webtrigger.Delivery) attemptView {
	v := attemptView{
		RunKey: d.RunKey, URL: d.URL, State: d.State,
		CreatedAt: wire.FormatTime(d.CreatedAt), AttemptedAt: wire.NullableTime(d.AttemptedAt), CompletedAt: wire.NullableTime(d.CompletedAt),
		Error: wire.NullableString(d.Error), Response: wire.NullableString(d.Response),
	}
	if d.HTTPStatus != 0 {
		v.HTTPStatus = &d.HTTPStatus
	}
	if !d.AttemptedAt.IsZero() && !d.CompletedAt.IsZero() {
		ms := d.Latency.Milliseconds()
		v.LatencyMS = &ms
	}
	return v
}

// listDeliveries lists the deliveries of a run, oldest first. They are few, and
// come all at once.
func (h *Handler) listDeliveries(w http.ResponseWriter, r *http.Request, runID int64) error {
	deliveries, err := h.svc.Deliveries(r.Context(), runID)
	if err != nil {
		return err
	}
	return writeList(w, deliveries, "", viewDelivery)
}

func (h *Handler) redeliver(w http.ResponseWriter, r *http.Request, id int64) error {
	d, err := h.svc.Redeliver(r.Context(), id)
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusAccepted, viewDelivery(d))
}

// testCallback answers 200 with what became of the callback, delivered or not.
func (h *Handler) testCallback(w http.ResponseWriter, r *http.Request, assistantID string) error {
	b, err := h.readBody(w, r, "callback_url")
	if err != nil {
		return err
	}
	url := b.neededText("callback_url")
	if err := b.err(); err != nil {
		return err
	}
	d, err := h.svc.SendTestCallback(r.Context(), assistantID, url)
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, viewAttempt(d))
}
