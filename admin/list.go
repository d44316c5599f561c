package admin

import (
	"net/http"
	"strconv"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// writePage answers with one page of a list. fetch reads what follows the id
// page.Before, which is the last one of the page before.
func writePage[T, V any](w http.ResponseWriter, q *query, fetch func(webtrigger.Page) ([]T, error),
	id func(T) int64, view func(T) V) error {
	page := q.page()
	if q.err != nil {
		return q.err
	}
	items, err := fetch(page)
	if err != nil {
		return err
	}
	next := ""
	if len(items) == page.Limit {
		// A full page may be the last one. If next is set, the next page has at least one item.
		last := id(items[len(items)-1])
		more, err := fetch(webtrigger.Page{Before: last, Limit: 1})
		if err != nil {
			return err
		}
		if len(more) > 0 {
			next = cursorOf(last)
		}
	}
	return writeList(w, items, next, view)
}

// writeList responds with items and the cursor next. If next is "", it is the last page.
func writeList[T, V any](w http.ResponseWriter, items []T, next string, view func(T) V) error {
	views := make([]V, len(items)) // never null
	for i, item := range items {
		views[i] = view(item)
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		Items []V     `json:"items"`
		Next  *string `json:"next"`
	}{views, wire.NullableString(next)})
}

// cursorOf is the cursor of a list that continues after an id, "" for 0.
func cursorOf(id int64) string {
	if id == 0 {
		return ""
	}
	return newCursor(strconv.FormatInt(id, 10))
}
