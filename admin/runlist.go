package admin

import (
	"context"
	"net/http"
	"slices"
	"time"

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

	// StatusSince is when an open run entered its status. It is null if the run has ended.
	StatusSince *string `json:"status_since"`

	// InputRequest is what a waiting run asks a person.
	InputRequest *inputView `json:"input_request"`
}

// statusSince is the time of the last change of an open run's status. A run that has been
// claimed since its labels were read has no time in the queue.
func statusSince(run webtrigger.Run, queuedAt time.Time, input webtrigger.Input) time.Time {
	switch run.Status {
	case webtrigger.RunQueued:
		return queuedAt
	case webtrigger.RunRunning:
		return run.StartedAt
	case webtrigger.RunWaiting:
		return input.CreatedAt
	}
	return time.Time{}
}

// runFilterParams are the query parameters by which a list of runs is filtered.
var runFilterParams = append(slices.Clone(runFilters), metadataParam+"PATH")

// runFilterFields are the fields of the filter of a bulk call.
var runFilterFields = append(slices.Clone(runFilters), "metadata")

var runFilters = []string{"assistant_id", "conversation_id", "status", "key_id", "task_definition_id", "callback_state", "q", "from", "to"}

func runFilter(q *query) webtrigger.RunSearch {
	return webtrigger.RunSearch{Text: q.text("q"), Metadata: q.metadata(), RunQuery: webtrigger.RunQuery{
		AssistantID:      q.assistantID("assistant_id"),
		Statuses:         values(q, "status", runStatuses),
		ConversationID:   q.id("conversation_id"),
		KeyID:            q.id("key_id"),
		TaskDefinitionID: q.id("task_definition_id"),
		CallbackStates:   values(q, "callback_state", deliveryStates),
		From:             q.time("from"),
		To:               q.time("to"),
	}}
}

// isSearch reports whether a filter looks in texts.
func isSearch(filter *webtrigger.RunSearch) bool {
	return filter.Text != "" || len(filter.Metadata) > 0
}

func (h *Handler) listRuns(w http.ResponseWriter, r *http.Request, q *query) error {
	filter := runFilter(q)
	filter.OldestFirst = value(q, "order", []string{"newest", "oldest"}) == "oldest"
	if isSearch(&filter) {
		return h.searchRuns(w, r, q, filter)
	}
	return writePage(w, q, func(page webtrigger.Page) ([]runItem, error) {
		filter.Page = page
		runs, err := h.svc.Runs(r.Context(), filter.RunQuery)
		if err != nil {
			return nil, err
		}
		return h.label(r.Context(), runs)
	}, func(item runItem) int64 { return item.ID }, func(item runItem) runItem { return item })
}

// searchedView is how far a page of a search has looked.
type searchedView struct {
	Runs  int      `json:"runs"`  // in whose texts this page has looked
	Since *string  `json:"since"` // when the last of them was created
	Texts []string `json:"texts"`
}

// searchRuns lists the runs that a search finds. next continues the search, also if the page
// is empty.
func (h *Handler) searchRuns(w http.ResponseWriter, r *http.Request, q *query, filter webtrigger.RunSearch) error {
	if filter.Page = q.page(); q.err != nil {
		return q.err
	}
	found, err := h.svc.SearchRuns(r.Context(), filter)
	if q.failWith(err) {
		return q.err
	} else if err != nil {
		return err
	}
	runs := found.Runs
	if exact := found.Exact; exact != nil { // first, and once
		runs = append([]webtrigger.Run{*exact}, slices.DeleteFunc(runs, func(run webtrigger.Run) bool { return run.ID == exact.ID })...)
	}
	items, err := h.label(r.Context(), runs)
	if err != nil {
		return err
	}
	texts := []string{"subject", "request_id", "error_message", "status_detail"}
	if h.svc.SearchesTexts() {
		texts = append(texts, "message", "result", "metadata")
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		Items    []runItem    `json:"items"`
		Next     *string      `json:"next"`
		Searched searchedView `json:"searched"`
	}{append([]runItem{}, items...), wire.NullableString(cursorOf(found.Next)), searchedView{found.Searched, wire.NullableTime(found.Since), texts}})
}

// countFiltered counts the runs of a filter by status. complete is false if a search has not
// looked in all of them.
func (h *Handler) countFiltered(ctx context.Context, filter webtrigger.RunSearch, limit int) (counts map[webtrigger.RunStatus]int, complete bool, err error) {
	if isSearch(&filter) {
		return h.svc.CountFoundRuns(ctx, filter)
	}
	counts, err = h.svc.CountRuns(ctx, filter.RunQuery, limit)
	return counts, true, err
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
			wire.NullableString(l.KeyName), wire.NullableString(l.TaskName),
			wire.NullableTime(statusSince(run, l.QueuedAt, open[run.ID])), nil}
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
	counts, complete, err := h.countFiltered(r.Context(), filter, mostCounted)
	if q.failWith(err) {
		return q.err
	} else if err != nil {
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
		return view{status, min(counts[status], mostCounted), !complete || counts[status] >= mostCounted}
	})
}
