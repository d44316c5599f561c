package admin

import (
	"context"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
)

// cancelMany cancels unfinished runs.
func (h *Handler) cancelMany(w http.ResponseWriter, r *http.Request, q *query) error {
	b, err := h.readBulk(w, r, q, []string{"reason"}, runFilterFields...)
	if err != nil {
		return err
	}
	reason := b.givenText("reason")
	return h.changeRuns(b, []webtrigger.RunStatus{webtrigger.RunQueued, webtrigger.RunRunning, webtrigger.RunWaiting},
		func(ctx context.Context, run webtrigger.Run) (int64, error) {
			_, err := h.svc.CancelRun(ctx, run.ID, reason)
			return 0, err
		}).serve(w, r, b)
}

// repeatMany repeats ended runs; without a status in the filter, those that failed or
// timed out.
func (h *Handler) repeatMany(w http.ResponseWriter, r *http.Request, q *query) error {
	b, err := h.readBulk(w, r, q, nil, runFilterFields...)
	if err != nil {
		return err
	}
	return h.changeRuns(b, []webtrigger.RunStatus{webtrigger.RunFailed, webtrigger.RunTimedOut},
		func(ctx context.Context, run webtrigger.Run) (int64, error) {
			next, err := h.svc.RepeatRun(ctx, run.ID)
			return next.ID, err
		}).serve(w, r, b)
}

// redeliverRuns sends the callbacks of runs again; without a callback_state in the filter,
// those that were not delivered.
func (h *Handler) redeliverRuns(w http.ResponseWriter, r *http.Request, q *query) error {
	b, err := h.readBulk(w, r, q, nil, runFilterFields...)
	if err != nil {
		return err
	}
	filter := bulkFilter(b)
	if len(filter.CallbackStates) == 0 {
		filter.CallbackStates = undelivered
	}
	runs := h.bulkRuns(b, filter)
	read := func(ctx context.Context, run webtrigger.Run) (c runCallback, err error) {
		c.run = run
		deliveries, err := h.svc.Deliveries(ctx, run.ID)
		if len(deliveries) > 0 {
			c.last = deliveries[len(deliveries)-1]
		}
		return c, err
	}
	return bulk[runCallback]{
		find: func(ctx context.Context, page webtrigger.Page) ([]runCallback, int64, error) {
			found, next, err := runs.find(ctx, page)
			callbacks := make([]runCallback, len(found))
			for i := 0; i < len(found) && err == nil; i++ {
				callbacks[i], err = read(ctx, found[i])
			}
			return callbacks, next, err
		},
		count: runs.count,
		read: func(ctx context.Context, id int64) (runCallback, error) {
			run, err := runs.read(ctx, id)
			if err != nil {
				return runCallback{}, err
			}
			return read(ctx, run)
		},
		id:       func(c runCallback) int64 { return c.run.ID },
		belongs:  func(c runCallback) bool { return runs.belongs(c.run) },
		eligible: func(c runCallback) bool { return c.last.ID != 0 && mayRedeliver(c.last) },
		do: func(ctx context.Context, c runCallback) (int64, error) {
			next, err := h.svc.Redeliver(ctx, c.last.ID)
			return next.ID, err
		},
	}.serve(w, r, b)
}

// runCallback is a run with its last delivery. If it has none, the id of last is 0.
type runCallback struct {
	run  webtrigger.Run
	last webtrigger.Delivery
}

// bulkFilter reads the filter of a bulk call on runs.
func bulkFilter(b *bulkBody) webtrigger.RunSearch {
	filter := webtrigger.RunSearch{RunQuery: webtrigger.RunQuery{AssistantID: b.assistantID}}
	if f := b.filter; f != nil {
		filter.Statuses, filter.KeyID = givenValues(f, "status", runStatuses), f.givenID("key_id")
		filter.ConversationID, filter.TaskDefinitionID = f.givenID("conversation_id"), f.givenID("task_definition_id")
		filter.CallbackStates = givenValues(f, "callback_state", deliveryStates)
		filter.From, filter.To = f.givenBound("from"), f.givenBound("to")
		filter.Text, filter.Metadata = f.givenText("q"), f.givenMetadata("metadata")
	}
	return filter
}

// bulkRuns finds the runs of a bulk call. It leaves eligible and do to the call.
func (h *Handler) bulkRuns(b *bulkBody, filter webtrigger.RunSearch) bulk[webtrigger.Run] {
	return bulk[webtrigger.Run]{
		find: func(ctx context.Context, page webtrigger.Page) ([]webtrigger.Run, int64, error) {
			filter.Page = page
			if isSearch(&filter) {
				found, err := h.svc.SearchRuns(ctx, filter)
				return found.Runs, found.Next, err
			}
			runs, err := h.svc.Runs(ctx, filter.RunQuery)
			return runs, nextOf(runs, page, func(run webtrigger.Run) int64 { return run.ID }), err
		},
		count: func(ctx context.Context) (n int, complete bool, _ error) {
			counts, complete, err := h.countFiltered(ctx, filter, 0)
			for _, c := range counts {
				n += c
			}
			return n, complete, err
		},
		read:    h.svc.RunSummary,
		id:      func(run webtrigger.Run) int64 { return run.ID },
		belongs: func(run webtrigger.Run) bool { return b.assistantID == "" || run.AssistantID == b.assistantID },
	}
}

// changeRuns changes runs that have ended, or runs that have not, as statuses. If the
// filter has no status, it finds those with one of statuses.
func (h *Handler) changeRuns(b *bulkBody, statuses []webtrigger.RunStatus, do func(context.Context, webtrigger.Run) (int64, error)) bulk[webtrigger.Run] {
	filter := bulkFilter(b)
	ended := statuses[0].Terminal()
	if len(filter.Statuses) == 0 {
		filter.Statuses = statuses
	}
	change := h.bulkRuns(b, filter)
	change.eligible = func(run webtrigger.Run) bool { return run.Status.Terminal() == ended }
	change.count = func(ctx context.Context) (n int, complete bool, _ error) {
		counts, complete, err := h.countFiltered(ctx, filter, 0)
		for status, c := range counts {
			if status.Terminal() == ended {
				n += c
			}
		}
		return n, complete, err
	}
	change.do = do
	return change
}
