package admin

import (
	"errors"
	"net/http"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// retentionView has ages in seconds; null is forever.
type retentionView struct {
	Completed    *int64 `json:"completed"`
	Failed       *int64 `json:"failed"`
	Cancelled    *int64 `json:"cancelled"`
	TimedOut     *int64 `json:"timed_out"`
	Events       *int64 `json:"events"`
	AuditEntries *int64 `json:"audit_entries"`
	Statistics   *int64 `json:"statistics"`
}

type storedCountView struct {
	Count     int64 `json:"count"`
	Estimated bool  `json:"estimated"`
}

type storedView struct {
	Runs         storedCountView `json:"runs"`
	Deliveries   storedCountView `json:"deliveries"`
	AuditEntries storedCountView `json:"audit_entries"`
	OldestRunAt  *string         `json:"oldest_run_at"`
	Bytes        *int64          `json:"bytes"` // null: not known
}

// purgeView is what the purges of all processes did last.
type purgeView struct {
	PassedAt  *string      `json:"passed_at"` // null: no pass is complete
	DeletedAt *string      `json:"deleted_at"`
	Deleted   *deletedView `json:"deleted"` // by the pass that ended at deleted_at
}

type deletedView struct {
	Triggers          int `json:"triggers"`
	RunsWithoutEvents int `json:"runs_without_events"`
	AuditEntries      int `json:"audit_entries"`
	StatisticsHours   int `json:"statistics_hours"`
}

// getData returns how long data is kept, how much is stored, and what was purged last. A
// store that does not report them has null for the last two.
func (h *Handler) getData(w http.ResponseWriter, r *http.Request, _ struct{}) error {
	keep := h.svc.Retention()
	body := struct {
		Retention retentionView `json:"retention"`
		Stored    *storedView   `json:"stored"`
		Purge     *purgeView    `json:"purge"`
	}{Retention: retentionView{seconds(keep.Completed), seconds(keep.Failed), seconds(keep.Cancelled), seconds(keep.TimedOut),
		seconds(keep.Events), seconds(keep.Audit), seconds(webtrigger.StatsAge)}}
	state, err := h.svc.DataState(r.Context())
	switch {
	case err == nil:
		body.Stored, body.Purge = viewStored(state), viewPurge(state)
	case !errors.Is(err, errors.ErrUnsupported):
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, body)
}

func viewStored(state webtrigger.DataState) *storedView {
	view := &storedView{Runs: storedCountView(state.Runs), Deliveries: storedCountView(state.Deliveries),
		AuditEntries: storedCountView(state.AuditEntries), OldestRunAt: wire.NullableTime(state.OldestRun)}
	if state.Bytes > 0 {
		view.Bytes = &state.Bytes
	}
	return view
}

func viewPurge(state webtrigger.DataState) *purgeView {
	view := &purgeView{PassedAt: wire.NullableTime(state.PassedAt), DeletedAt: wire.NullableTime(state.DeletedAt)}
	if d := state.Deleted; !state.DeletedAt.IsZero() {
		view.Deleted = &deletedView{d.Triggers, d.Events, d.AuditEntries, d.StatsHours}
	}
	return view
}

// seconds is an age in whole seconds, rounded up. nil is forever.
func seconds(age time.Duration) *int64 {
	if age == 0 {
		return nil
	}
	n := int64((age + time.Second - 1) / time.Second)
	return &n
}
