package admin

import (
	"context"
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

// deliveryFilter reads the filter of a list of deliveries.
func deliveryFilter(q *query) webtrigger.DeliveryFilter {
	last := q.boolean("last")
	return webtrigger.DeliveryFilter{
		AssistantID: q.assistantID("assistant_id"), Host: q.filterText("host"), States: values(q, "state", deliveryStates),
		Last: last != nil && *last, From: q.time("from"), To: q.time("to"),
	}
}

// foundDelivery is a delivery in a list over all runs.
type foundDelivery struct {
	deliveryView
	TriggerID   int64  `json:"trigger_id"`
	AssistantID string `json:"assistant_id"`
	Host        string `json:"host"`
	Retry       int    `json:"retry"`
}

// findDeliveries lists the deliveries of all runs, newest first.
func (h *Handler) findDeliveries(w http.ResponseWriter, r *http.Request, q *query) error {
	filter := deliveryFilter(q)
	return writePage(w, q, func(page webtrigger.Page) ([]webtrigger.Delivery, error) {
		filter.Page = page
		return h.svc.FindDeliveries(r.Context(), filter)
	}, func(d webtrigger.Delivery) int64 { return d.ID }, func(d webtrigger.Delivery) foundDelivery {
		return foundDelivery{viewDelivery(d), d.ConversationID, d.AssistantID, d.Host, d.Retry}
	})
}

// countDeliveries counts the newest deliveries by receiver and state.
func (h *Handler) countDeliveries(w http.ResponseWriter, r *http.Request, q *query) error {
	filter := deliveryFilter(q)
	if q.err != nil {
		return q.err
	}
	counts, err := h.svc.CountDeliveries(r.Context(), filter)
	if err != nil {
		return err
	}
	type view struct {
		Host  string                   `json:"host"`
		State webtrigger.DeliveryState `json:"state"`
		Count int                      `json:"count"`
	}
	views, total := make([]view, len(counts)), 0
	for i, c := range counts {
		views[i] = view(c)
		total += c.Count
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		Items []view `json:"items"`
		More  bool   `json:"more"` // older ones are not counted
	}{views, total == webtrigger.MaxCount})
}

// undelivered are the states of callbacks that were not delivered.
var undelivered = []webtrigger.DeliveryState{webtrigger.DeliveryFailed, webtrigger.DeliveryBlocked, webtrigger.DeliveryUnknown}

// mayRedeliver reports whether a delivery has an outcome.
func mayRedeliver(d webtrigger.Delivery) bool {
	return d.State != webtrigger.DeliveryPending && d.State != webtrigger.DeliverySending
}

// redeliverMany redelivers the callbacks of runs. A filter finds only the last delivery of
// a run, and by default those that were not delivered.
func (h *Handler) redeliverMany(w http.ResponseWriter, r *http.Request, q *query) error {
	b, err := h.readBulk(w, r, q, nil, "state", "host", "assistant_id", "from", "to")
	if err != nil {
		return err
	}
	filter := webtrigger.DeliveryFilter{AssistantID: b.assistantID, Last: true}
	if f := b.filter; f != nil {
		filter.States, filter.Host = givenValues(f, "state", deliveryStates), f.givenText("host")
		filter.From, filter.To = f.givenBound("from"), f.givenBound("to")
	}
	if len(filter.States) == 0 {
		filter.States = undelivered
	}
	return bulk[webtrigger.Delivery]{
		find: func(ctx context.Context, page webtrigger.Page) ([]webtrigger.Delivery, int64, error) {
			filter.Page = page
			found, err := h.svc.FindDeliveries(ctx, filter)
			return found, nextOf(found, page, func(d webtrigger.Delivery) int64 { return d.ID }), err
		},
		count: func(ctx context.Context) (n int, complete bool, _ error) {
			counts, err := h.svc.CountDeliveries(ctx, filter)
			for _, c := range counts {
				n += c.Count
			}
			return n, true, err
		},
		read:     h.svc.Delivery,
		id:       func(d webtrigger.Delivery) int64 { return d.ID },
		belongs:  func(d webtrigger.Delivery) bool { return b.assistantID == "" || d.AssistantID == b.assistantID },
		eligible: mayRedeliver,
		do: func(ctx context.Context, d webtrigger.Delivery) (created int64, _ error) {
			next, err := h.svc.Redeliver(ctx, d.ID)
			return next.ID, err
		},
	}.serve(w, r, b)
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
