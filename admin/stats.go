package admin

import (
	"net/http"
	"strconv"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

type statsStepView struct {
	From      string `json:"from"`
	Completed int    `json:"completed"`
	Failed    int    `json:"failed"`
	Cancelled int    `json:"cancelled"`
	TimedOut  int    `json:"timed_out"`
	MedianMS  int64  `json:"median_ms"` // 0: no run has a duration
	P95MS     int64  `json:"p95_ms"`
}

func viewStatsStep(s webtrigger.StatsStep) statsStepView {
	return statsStepView{wire.FormatTime(s.From), s.Completed, s.Failed, s.Cancelled, s.TimedOut, s.Median.Milliseconds(), s.P95.Milliseconds()}
}

type errorCountView struct {
	Error     string `json:"error"`
	Count     int    `json:"count"`
	LastRunID int64  `json:"last_run_id"`
}

// getStats returns how runs ended over time; without from and to, in the last day.
func (h *Handler) getStats(w http.ResponseWriter, r *http.Request, q *query) error {
	query := webtrigger.StatsQuery{AssistantID: q.assistantID("assistant_id"), From: q.time("from"), To: q.time("to"),
		Step: time.Duration(q.seconds("step")) * time.Second}
	if query.To.IsZero() {
		query.To = time.Now()
	}
	if query.From.IsZero() {
		query.From = query.To.Add(-24 * time.Hour)
	}
	if q.err != nil {
		return q.err
	}
	if steps := query.To.Sub(query.From) / max(query.Step, webtrigger.StatsHour); steps < 0 || steps > 700 {
		q.fail("to must not lie before from, and step must divide the time into at most 700 steps.")
		return q.err
	}
	if query.To.Sub(query.From) > webtrigger.StatsAge {
		q.fail("from must be at most " + strconv.Itoa(int(webtrigger.StatsAge/(24*time.Hour))) + " days before to.")
		return q.err
	}
	stats, err := h.svc.Stats(r.Context(), query)
	if err != nil {
		return err
	}
	steps := make([]statsStepView, len(stats.Steps))
	for i, s := range stats.Steps {
		steps[i] = viewStatsStep(s)
	}
	errs := make([]errorCountView, len(stats.Errors))
	for i, e := range stats.Errors {
		errs[i] = errorCountView(e)
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		Step     int64            `json:"step"`
		Complete bool             `json:"complete"`
		Steps    []statsStepView  `json:"steps"`
		Total    statsStepView    `json:"total"`
		Errors   []errorCountView `json:"errors"`
	}{int64(max(query.Step, webtrigger.StatsHour).Truncate(webtrigger.StatsHour) / time.Second), stats.Complete, steps, viewStatsStep(stats.Total), errs})
}
