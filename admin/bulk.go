package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// A bulk call changes many resources of one kind: those that "ids" lists, or those that
// "filter" selects, newest first. One call changes at most maxBulk of them and takes
// about bulkTime; resources without a result are as they were. If it has left some of a filter, it returns a cursor with which the
// same call continues. Each resource is changed as its own call would change it, in a
// transaction of its own with an audit entry, and has its result in the response.
const (
	maxBulk  = 200
	bulkTime = 5 * time.Second
)

// bulkBody is the body of a bulk call.
type bulkBody struct {
	body
	assistantID string // "": all
	ids         []int64
	filter      *body // nil: ids
	cursor      int64
	dryRun      bool
}

// readBulk reads the body of a bulk call. fields are those of its filter, more those of
// the body. The query limits the call to an assistant; a filter can only narrow it.
func (h *Handler) readBulk(w http.ResponseWriter, r *http.Request, q *query, more []string, fields ...string) (*bulkBody, error) {
	b := &bulkBody{assistantID: q.assistantID("assistant_id")}
	if q.err != nil {
		return nil, q.err
	}
	read, err := h.readBody(w, r, append([]string{"ids", "filter", "cursor", "dry_run"}, more...)...)
	if err != nil {
		return nil, err
	}
	b.body = *read
	b.dryRun = b.givenBoolean("dry_run", false)
	ids, hasIDs := b.given("ids")
	filter := b.givenObject("filter")
	switch {
	case hasIDs == (filter != nil):
		b.fault("", "must have either ids or filter")
	case hasIDs:
		b.readIDs(ids)
	default:
		if b.filter, err = parseBody(filter, fields...); err != nil {
			return nil, err
		}
		b.readAssistant()
	}
	if text := b.givenText("cursor"); text != "" {
		inner := &query{values: map[string][]string{"cursor": {text}}}
		var ok bool
		if b.cursor, ok = parseID(inner.cursor()); !ok || inner.err != nil || b.filter == nil {
			b.fault("/cursor", "must be the value of next from a response to the same filter")
		}
	}
	return b, nil
}

func (b *bulkBody) readIDs(raw json.RawMessage) {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil || len(items) == 0 || len(items) > maxBulk {
		b.fault("/ids", "must be an array of 1 to "+strconv.Itoa(maxBulk)+" ids")
		return
	}
	seen := make(map[int64]bool)
	for i, item := range items {
		id, ok := strictjson.PositiveInt64(item)
		switch {
		case !ok:
			b.fault("/ids/"+strconv.Itoa(i), "must be a positive integer")
		case seen[id]:
			b.fault("/ids/"+strconv.Itoa(i), "is listed twice")
		default:
			seen[id] = true
			b.ids = append(b.ids, id)
		}
	}
}

func (b *bulkBody) readAssistant() {
	switch id := b.filter.givenText("assistant_id"); {
	case id == "":
	case !webtrigger.ValidAssistantID(id):
		b.filter.fault("/assistant_id", "must be the id of an assistant")
	case b.assistantID != "" && b.assistantID != id:
		b.filter.fault("/assistant_id", "must be the assistant_id of the query")
	default:
		b.assistantID = id
	}
}

// err has the faults of the filter too.
func (b *bulkBody) err() error {
	if b.filter != nil {
		for _, f := range b.filter.faults {
			b.fault("/filter"+f.Pointer, f.Detail)
		}
	}
	return b.body.err()
}

// givenValues is a text or an array of texts, each of which is known.
func givenValues[S ~string](b *body, key string, known []S) (list []S) {
	raw, ok := b.given(key)
	if !ok {
		return nil
	}
	var texts []string
	if text, ok := strictjson.String(raw); ok {
		texts = []string{text}
	} else if json.Unmarshal(raw, &texts) != nil {
		b.fault("/"+key, "must be a string or an array of strings")
		return nil
	}
	q := &query{values: map[string][]string{key: texts}}
	if list = values(q, key, known); q.err != nil {
		b.fault("/"+key, "must have only values of "+oneOf(known))
	}
	return list
}

// bulk is how a bulk call handles one kind of resource.
type bulk[T any] struct {
	find     func(ctx context.Context, page webtrigger.Page) (items []T, next int64, _ error) // by the filter; next is 0 at its end
	count    func(ctx context.Context) (n int, complete bool, _ error)                        // by the filter, at most webtrigger.MaxCount
	read     func(ctx context.Context, id int64) (T, error)
	id       func(T) int64
	belongs  func(T) bool // to the assistant that the call is limited to
	eligible func(T) bool // the change would not be a conflict
	do       func(ctx context.Context, item T) (created int64, err error)
}

// bulkItem is the result of one resource.
type bulkItem struct {
	ID        int64  `json:"id"`
	Result    string `json:"result"`               // done, conflict, not_found or failed
	CreatedID *int64 `json:"created_id,omitempty"` // of what the change has created
	Detail    string `json:"detail,omitempty"`     // of a failure, for people
}

func (c bulk[T]) serve(w http.ResponseWriter, r *http.Request, b *bulkBody) error {
	if err := b.err(); err != nil {
		return err
	}
	if b.dryRun {
		return c.serveCount(w, r, b)
	}
	until := time.Now().Add(bulkTime)
	var items []T
	var results []bulkItem
	var rest int64 // after the items
	var err error
	if b.filter != nil {
		if items, rest, err = c.find(r.Context(), webtrigger.Page{Before: b.cursor, Limit: maxBulk}); err != nil {
			return filterError(err)
		}
	} else if items, results, err = c.readAll(r.Context(), b.ids); err != nil {
		return err
	}
	next := cursorOf(rest)
	for i, item := range items {
		if i > 0 && b.filter != nil && time.Now().After(until) {
			break
		}
		result, err := c.change(r.Context(), item)
		if err != nil && len(results) == 0 {
			return err
		} else if err != nil {
			break // the next call meets it first
		}
		results = append(results, result)
		if next = cursorOf(rest); b.filter != nil && i < len(items)-1 {
			next = cursorOf(c.id(item))
		}
	}
	return writeList(w, results, next, func(item bulkItem) bulkItem { return item })
}

// nextOf is the id after which a list continues that has a page, or 0 at its end.
func nextOf[T any](items []T, page webtrigger.Page, id func(T) int64) int64 {
	if len(items) < page.Limit || len(items) == 0 {
		return 0
	}
	return id(items[len(items)-1])
}

// filterError puts the faults of a filter where the body has it.
func filterError(err error) error {
	var invalid *webtrigger.RequestError
	if !errors.As(err, &invalid) {
		return err
	}
	found := &webtrigger.RequestError{}
	for _, f := range invalid.Faults {
		found.Faults = append(found.Faults, webtrigger.Fault{Pointer: "/filter" + strings.Replace(f.Pointer, "/"+metadataParam, "/metadata/", 1), Detail: f.Detail})
	}
	return found
}

// readAll reads the resources of a list. Those that do not exist, or are another
// assistant's, have a result already.
func (c bulk[T]) readAll(ctx context.Context, ids []int64) (items []T, missing []bulkItem, _ error) {
	for _, id := range ids {
		item, err := c.read(ctx, id)
		switch {
		case errors.Is(err, webtrigger.ErrNotFound) || err == nil && !c.belongs(item):
			missing = append(missing, bulkItem{ID: id, Result: "not_found"})
		case err != nil:
			return nil, nil, err
		default:
			items = append(items, item)
		}
	}
	return items, missing, nil
}

// change changes one resource. An error is not about the resource.
func (c bulk[T]) change(ctx context.Context, item T) (bulkItem, error) {
	result := bulkItem{ID: c.id(item), Result: "conflict"}
	if !c.eligible(item) {
		return result, nil
	}
	created, err := c.do(ctx, item)
	var invalid *webtrigger.RequestError
	switch {
	case err == nil:
		result.Result = "done"
		if created != 0 {
			result.CreatedID = &created
		}
	case errors.Is(err, webtrigger.ErrConflict):
	case errors.Is(err, webtrigger.ErrNotFound):
		result.Result = "not_found"
	case errors.As(err, &invalid):
		result.Result, result.Detail = "failed", strings.TrimPrefix(invalid.Error(), "webtrigger: ")
	case errors.Is(err, webtrigger.ErrChannelDisabled):
		result.Result, result.Detail = "failed", "channel is disabled"
	case errors.Is(err, webtrigger.ErrQueueFull):
		result.Result, result.Detail = "failed", "queue is full"
	default:
		return result, err
	}
	return result, nil
}

// serveCount responds with how many resources the call would change, and changes none.
func (c bulk[T]) serveCount(w http.ResponseWriter, r *http.Request, b *bulkBody) error {
	n, more := 0, false
	if b.filter != nil {
		var err error
		var complete bool
		if n, complete, err = c.count(r.Context()); err != nil {
			return filterError(err)
		}
		more = !complete || n >= webtrigger.MaxCount
	} else {
		items, _, err := c.readAll(r.Context(), b.ids)
		if err != nil {
			return err
		}
		for _, item := range items {
			if c.eligible(item) {
				n++
			}
		}
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		Count int  `json:"count"`
		More  bool `json:"more"` // there are more than the count
	}{n, more})
}
