package admin

import (
	"context"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// runItem is a run in a list, with the texts by which people recognize it.
type runItem struct {
	runView
	Subject       string  `json:"subject"`
	AssistantName *string `json:"assistant_name"`
	KeyName       *string `json:"key_name"`
	TaskName      *string `json:"task_name"`

	// InputRequest is what a waiting run asks a person, since InputRequest.CreatedAt.
	InputRequest *inputView `json:"input_request"`
}

// runFilterParams are the query parameters by which a list of runs is filtered.
var runFilterParams = []string{"assistant_id", "conversation_id", "status", "key_id", "task_definition_id", "callback_state", "q", "from", "to"}

func runFilter(q *query) webtrigger.RunQuery {
	return webtrigger.RunQuery{
		AssistantID:      q.assistantID("assistant_id"),
		Statuses:         values(q, "status", runStatuses),
		ConversationID:   q.id("conversation_id"),
		KeyID:            q.id("key_id"),
		TaskDefinitionID: q.id("task_definition_id"),
		CallbackStates:   values(q, "callback_state", deliveryStates),
		Search:           q.filterText("q"),
		From:             q.time("from"),
		To:               q.time("to"),
	}
}

func (h *Handler) listRuns(w http.ResponseWriter, r *http.Request, q *query) error {
	filter := runFilter(q)
	filter.OldestFirst = value(q, "order", []string{"newest", "oldest"}) == "oldest"
	return writePage(w, q, func(page webtrigger.Page) ([]runItem, error) {
		filter.Page = page
		runs, err := h.svc.Runs(r.Context(), filter)
		if err != nil {
			return nil, err
		}
		return h.label(r.Context(), runs)
	}, func(item runItem) int64 { return item.ID }, func(item runItem) runItem { return item })
}

// label adds the labels of runs.
func (h *Handler) label(ctx context.Context, runs []webtrigger.Run) ([]runItem, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	ids := make([]int64, len(runs))
	for i, run := range runs {
		ids[i] = run.ID
	}
	labels, err := h.svc.RunLabels(ctx, ids)
	if err != nil {
		return nil, err
	}
	open, err := h.openInputs(ctx, runs)
	if err != nil {
		return nil, err
	}
	names := h.assistantNames(ctx)
	items := make([]runItem, len(runs))
	for i, run := range runs {
		l := labels[run.ID]
		items[i] = runItem{viewRun(run), l.Subject, wire.NullableString(names[run.AssistantID]),
			wire.NullableString(l.KeyName), wire.NullableString(l.TaskName), nil}
		if input, waits := open[run.ID]; waits {
			view := viewInput(input)
			items[i].InputRequest = &view
		}
	}
	return items, nil
}

// assistantNames are the names that the host has for its assistants. Without them, ids
// stand for them.
func (h *Handler) assistantNames(ctx context.Context) map[string]string {
	if h.opts.Assistants == nil {
		return nil
	}
	assistants, err := h.opts.Assistants(ctx)
	if err != nil {
		return nil
	}
	names := make(map[string]string, len(assistants))
	for _, a := range assistants {
		names[a.ID] = a.Name
	}
	return names
}

// mostCounted is how far a status is counted.
const mostCounted = 1000

// countRuns counts runs by status.
func (h *Handler) countRuns(w http.ResponseWriter, r *http.Request, q *query) error {
	filter := runFilter(q)
	if q.err != nil {
		return q.err
	}
	counts, err := h.svc.CountRuns(r.Context(), filter, mostCounted)
	if err != nil {
		return err
	}
	type view struct {
		Status webtrigger.RunStatus `json:"status"`
		Count  int                  `json:"count"`
		More   bool                 `json:"more"` // there are more than the count
	}
	statuses := filter.Statuses
	if len(statuses) == 0 {
		statuses = runStatuses
	}
	return writeList(w, statuses, "", func(status webtrigger.RunStatus) view {
		return view{status, counts[status], counts[status] == mostCounted}
	})
}

// cancelMany cancels unfinished runs.
func (h *Handler) cancelMany(w http.ResponseWriter, r *http.Request, q *query) error {
	b, err := h.readBulk(w, r, q, []string{"reason"}, runFilterParams...)
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
	b, err := h.readBulk(w, r, q, nil, runFilterParams...)
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
	b, err := h.readBulk(w, r, q, nil, runFilterParams...)
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
		find: func(ctx context.Context, page webtrigger.Page) ([]runCallback, error) {
			found, err := runs.find(ctx, page)
			callbacks := make([]runCallback, len(found))
			for i := 0; i < len(found) && err == nil; i++ {
				callbacks[i], err = read(ctx, found[i])
			}
			return callbacks, err
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

// runCallback is a run with its last delivery; 0 is none.
type runCallback struct {
	run  webtrigger.Run
	last webtrigger.Delivery
}

// bulkFilter reads the filter of a bulk call on runs.
func bulkFilter(b *bulkBody) webtrigger.RunQuery {
	filter := webtrigger.RunQuery{AssistantID: b.assistantID}
	if f := b.filter; f != nil {
		filter.Statuses, filter.KeyID = givenValues(f, "status", runStatuses), f.givenID("key_id")
		filter.ConversationID, filter.TaskDefinitionID = f.givenID("conversation_id"), f.givenID("task_definition_id")
		filter.CallbackStates = givenValues(f, "callback_state", deliveryStates)
		filter.From, filter.To = f.givenTime("from"), f.givenTime("to")
		if filter.Search = f.givenText("q"); len(filter.Search) > 200 {
			f.fault("/q", "must have at most 200 bytes")
		}
	}
	return filter
}

// bulkRuns finds the runs of a bulk call. It leaves eligible and do to the call.
func (h *Handler) bulkRuns(b *bulkBody, filter webtrigger.RunQuery) bulk[webtrigger.Run] {
	return bulk[webtrigger.Run]{
		find: func(ctx context.Context, page webtrigger.Page) ([]webtrigger.Run, error) {
			filter.Page = page
			return h.svc.Runs(ctx, filter)
		},
		count: func(ctx context.Context) (n int, _ error) {
			counts, err := h.svc.CountRuns(ctx, filter, 0)
			for _, c := range counts {
				n += c
			}
			return n, err
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
	change.count = func(ctx context.Context) (n int, _ error) {
		counts, err := h.svc.CountRuns(ctx, filter, 0)
		for status, c := range counts {
			if status.Terminal() == ended {
				n += c
			}
		}
		return n, err
	}
	change.do = do
	return change
}
