package admin

import (
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// checkQuery rejects a query with a parameter that the call does not have.
func checkQuery(r *http.Request, params []string) error {
	q := readQuery(r)
	for _, name := range slices.Sorted(maps.Keys(q.values)) {
		if !slices.Contains(params, name) && !(strings.HasPrefix(name, metadataParam) && slices.Contains(params, metadataParam+"PATH")) {
			q.fail(unknownParameter(name, params))
		}
	}
	return q.err
}

// metadataParam is the beginning of the names of parameters that filter by metadata. The
// path follows.
const metadataParam = "metadata."

// metadata are the values of metadata that runs must have. The search checks them.
func (q *query) metadata() (list []webtrigger.MetadataValue) {
	for _, name := range slices.Sorted(maps.Keys(q.values)) {
		if path, ok := strings.CutPrefix(name, metadataParam); ok {
			if value := q.text(name); value != "" || path == "" {
				list = append(list, webtrigger.MetadataValue{Path: path, Value: value})
			}
		}
	}
	return list
}

// failWith makes the first fault of a RequestError about the query its error. It reports whether
// err is one.
func (q *query) failWith(err error) bool {
	var invalid *webtrigger.RequestError
	if !errors.As(err, &invalid) {
		return false
	}
	f := invalid.Faults[0]
	q.fail(strings.TrimPrefix(f.Pointer, "/") + " " + f.Detail + ".")
	return true
}

func unknownParameter(name string, params []string) string {
	remedy := "This call has none."
	if len(params) > 0 {
		remedy = "This call has " + strings.Join(params, ", ") + "."
	}
	return "The query parameter " + strconv.Quote(wire.Truncate(name, 50)) + " is not known. " + remedy
}

// query is the query of a list that is being read. Empty parameters count as absent;
// the first malformed one is err.
type query struct {
	values url.Values
	err    error
}

func readQuery(r *http.Request) *query {
	values, err := url.ParseQuery(r.URL.RawQuery)
	q := &query{values: values}
	if err != nil {
		q.fail("The query is not URL-encoded as it should be.")
	}
	return q
}

func (q *query) fail(detail string) {
	if q.err == nil {
		q.err = wire.BadRequest("invalid_query", detail)
	}
}

func (q *query) text(name string) string {
	values := q.values[name]
	if len(values) > 1 {
		q.fail(name + " must be given once.")
	}
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func (q *query) assistantID(name string) string {
	id := q.text(name)
	if id != "" && !webtrigger.ValidAssistantID(id) {
		q.fail(name + " must be the id of an assistant.")
	}
	return id
}

func (q *query) id(name string) int64 {
	text := q.text(name)
	if text == "" {
		return 0
	}
	id, ok := parseID(text)
	if !ok {
		q.fail(name + " must be a positive integer.")
	}
	return id
}

// boolean is nil if the parameter is absent.
func (q *query) boolean(name string) *bool {
	text := q.text(name)
	value := text == "true"
	switch text {
	case "":
		return nil
	case "true", "false":
	default:
		q.fail(name + " must be true or false.")
	}
	return &value
}

// keyPrefix is the beginning of an API key's prefix. A whole key must not be in a URL.
func (q *query) keyPrefix(name string) string {
	text := q.text(name)
	if len(text) > 8 || strings.Trim(text, "0123456789abcdef") != "" {
		q.fail(name + " must be the first characters of an API key: 1 to 8 of 0 to 9 and a to f.")
		return ""
	}
	return text
}

// conversationKey is a key that a trigger may have.
func (q *query) conversationKey(name string) string {
	key := q.text(name)
	if utf8.RuneCountInString(key) > webtrigger.MaxConversationKeyRunes || strings.ContainsFunc(key, unicode.IsControl) || !utf8.ValidString(key) {
		q.fail(name + " must have at most " + strconv.Itoa(webtrigger.MaxConversationKeyRunes) + " characters and no control characters.")
	}
	return key
}

// values are the values of a parameter that may be given several times.
func values[S ~string](q *query, name string, known []S) (list []S) {
	for _, text := range q.values[name] {
		switch value := S(text); {
		case text == "" || slices.Contains(list, value):
		case slices.Contains(known, value):
			list = append(list, value)
		default:
			q.fail(name + " must be one of " + oneOf(known) + ". It may be given several times.")
		}
	}
	return list
}

// value is the value of a parameter, or "".
func value[S ~string](q *query, name string, known []S) S {
	text := S(q.text(name))
	if text != "" && !slices.Contains(known, text) {
		q.fail(name + " must be one of " + oneOf(known) + ".")
	}
	return text
}

func oneOf[S ~string](known []S) string {
	texts := make([]string, len(known))
	for i, value := range known {
		texts[i] = string(value)
	}
	return strings.Join(texts, ", ")
}

var runStatuses = []webtrigger.RunStatus{webtrigger.RunQueued, webtrigger.RunRunning, webtrigger.RunWaiting, webtrigger.RunCompleted,
	webtrigger.RunFailed, webtrigger.RunCancelled, webtrigger.RunTimedOut}

var deliveryStates = []webtrigger.DeliveryState{webtrigger.DeliveryPending, webtrigger.DeliverySending, webtrigger.DeliveryDelivered,
	webtrigger.DeliveryFailed, webtrigger.DeliveryBlocked, webtrigger.DeliveryUnknown}

// filterText is a text that a stored one must equal. It has at most 200 bytes.
func (q *query) filterText(name string) string {
	text := q.text(name)
	if len(text) > 200 || !wire.CleanText(text) {
		q.fail(name + " must have at most 200 bytes of UTF-8 without NUL characters.")
	}
	return text
}

func (q *query) time(name string) time.Time {
	text := q.text(name)
	if text == "" {
		return time.Time{}
	}
	// The plus of an offset that is not percent-encoded arrives as a space.
	t, ok := parseTime(strings.ReplaceAll(text, " ", "+"))
	if !ok {
		q.fail(name + " must be a time as in RFC 3339.")
	}
	if !storable(t) {
		q.fail(name + " " + storableRule + ".")
	}
	return t
}

const storableRule = "must lie in the years 1 to 9999 in UTC"

// storable reports whether a store can compare with t: Postgres has no year 0.
func storable(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 1 && year <= 9999
}

// seconds is a positive number of seconds, or 0.
func (q *query) seconds(name string) int64 {
	text := q.text(name)
	if text == "" {
		return 0
	}
	n, ok := parseID(text)
	if !ok || n > 366*24*3600 {
		q.fail(name + " must be a positive number of seconds, at most a year.")
		return 0
	}
	return n
}

func (q *query) limit() int {
	text := q.text("limit")
	if text == "" {
		return webtrigger.DefaultPageSize
	}
	limit, ok := parseID(text)
	if !ok || limit > webtrigger.MaxPageSize {
		q.fail("limit must be an integer from 1 to " + strconv.Itoa(webtrigger.MaxPageSize) + ".")
		return webtrigger.DefaultPageSize
	}
	return int(limit)
}

// page is the piece of a list by falling id that the query asks for.
func (q *query) page() webtrigger.Page {
	page := webtrigger.Page{Limit: q.limit()}
	if last := q.cursor(); last != "" {
		var ok bool
		if page.Before, ok = parseID(last); !ok {
			q.failCursor()
		}
	}
	return page
}

// cursor is the id that the page before ended with, "" for the first page.
func (q *query) cursor() string {
	text := q.text("cursor")
	last, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || text != newCursor(string(last)) {
		q.failCursor() // a decoder skips line breaks
	}
	return string(last)
}

func (q *query) failCursor() {
	if q.err == nil {
		q.err = wire.BadRequest("invalid_cursor", "cursor must be the value of next from a previous page.")
	}
}

func newCursor(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }
