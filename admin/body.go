package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// body is a request body that is being decoded: its members, and what is wrong
// with them. Everything wrong is reported at once, so reading a field never
// fails: it yields the zero value and leaves a fault.
type body struct {
	members []strictjson.Member
	faults  []webtrigger.Fault
}

// readBody reads a body that is a JSON object with some of the given fields.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, fields ...string) (*body, error) {
	data, err := wire.ReadJSON(w, r, h.opts.MaxBodyBytes)
	if err != nil {
		return nil, err
	}
	return parseBody(data, fields...)
}

func parseBody(data []byte, fields ...string) (*body, error) {
	members, found, err := strictjson.Parse(data)
	if err != nil {
		return nil, err
	}
	b := &body{members: members}
	for _, f := range append(found, strictjson.Unknown(members, fields...)...) {
		b.fault(f.Pointer, f.Detail)
	}
	if members == nil {
		return nil, b.err() // not an object: there are no fields to check
	}
	return b, nil
}

// fault adds a fault at a place, unless there is one already.
func (b *body) fault(pointer, detail string) {
	if !slices.ContainsFunc(b.faults, func(f webtrigger.Fault) bool { return f.Pointer == pointer }) {
		b.faults = append(b.faults, webtrigger.Fault{Pointer: pointer, Detail: detail})
	}
}

// err is the 422 of a body with faults, nil without.
func (b *body) err() error {
	if len(b.faults) == 0 {
		return nil
	}
	return &webtrigger.RequestError{Faults: b.faults}
}

// errWith returns err with the faults of found besides: the error of a call on the
// Service with the decoded fields. The call must not be able to succeed. If a fault was
// planted for that, planted is its pointer, and it is omitted.
func (b *body) errWith(found error, planted string) error {
	var more *webtrigger.RequestError
	if errors.As(found, &more) {
		for _, f := range more.Faults {
			if f.Pointer != planted {
				b.fault(f.Pointer, f.Detail)
			}
		}
	}
	return b.err()
}

func (b *body) raw(key string) (json.RawMessage, bool) {
	for _, m := range b.members {
		if m.Key == key {
			return m.Raw, true
		}
	}
	return nil, false
}

// given is the value of an optional field; null is as good as absent.
func (b *body) given(key string) (json.RawMessage, bool) {
	raw, ok := b.raw(key)
	return raw, ok && !strictjson.IsNull(raw)
}

// needed is the value of a required field.
func (b *body) needed(key string) (json.RawMessage, bool) {
	raw, ok := b.raw(key)
	if !ok {
		b.fault("/"+key, "is required")
	}
	return raw, ok
}

func (b *body) text(key string, raw json.RawMessage) string {
	text, ok := strictjson.String(raw)
	if !ok {
		b.fault("/"+key, "must be a string")
	}
	return text
}

func (b *body) neededText(key string) string {
	raw, ok := b.needed(key)
	if !ok {
		return ""
	}
	return b.text(key, raw)
}

func (b *body) givenText(key string) string {
	raw, ok := b.given(key)
	if !ok {
		return ""
	}
	return b.text(key, raw)
}

func (b *body) boolean(key string, raw json.RawMessage) bool {
	switch string(raw) {
	case "true":
		return true
	case "false":
		return false
	}
	b.fault("/"+key, "must be true or false")
	return false
}

func (b *body) neededBoolean(key string) bool {
	raw, ok := b.needed(key)
	return ok && b.boolean(key, raw)
}

func (b *body) givenBoolean(key string, otherwise bool) bool {
	raw, ok := b.given(key)
	if !ok {
		return otherwise
	}
	return b.boolean(key, raw)
}

// neededSeconds is a duration in whole seconds.
func (b *body) neededSeconds(key string, most time.Duration) time.Duration {
	raw, ok := b.needed(key)
	if !ok || string(raw) == "0" {
		return 0
	}
	seconds, ok := strictjson.PositiveInt64(raw)
	if limit := int64(most / time.Second); !ok || seconds > limit {
		b.fault("/"+key, fmt.Sprintf("must be an integer from 0 to %d, in seconds", limit))
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// givenTime is a time as RFC 3339 writes it, or zero.
func (b *body) givenTime(key string) time.Time {
	raw, ok := b.given(key)
	if !ok {
		return time.Time{}
	}
	text, _ := strictjson.String(raw)
	t, ok := parseTime(text)
	if !ok {
		b.fault("/"+key, "must be a time as in RFC 3339, such as 2030-01-31T12:00:00+00:00")
	}
	return t
}

// givenBound is a time that stored ones are compared with, or zero.
func (b *body) givenBound(key string) time.Time {
	t := b.givenTime(key)
	if !storable(t) {
		b.fault("/"+key, storableRule)
	}
	return t
}

// parseTime reads a time strictly, with the T and the Z in either case (RFC 3339
// §5.6). The zero time is rejected, because it means "never" here.
func parseTime(text string) (t time.Time, ok bool) {
	err := t.UnmarshalText([]byte(strings.ToUpper(text)))
	return t, err == nil && !t.IsZero()
}

// givenID is a positive integer, or 0.
func (b *body) givenID(key string) int64 {
	raw, ok := b.given(key)
	if !ok {
		return 0
	}
	id, ok := strictjson.PositiveInt64(raw)
	if !ok {
		b.fault("/"+key, "must be a positive integer")
	}
	return id
}

// givenTexts is an array of strings, empty when it is absent.
func (b *body) givenTexts(key string) []string {
	raw, ok := b.given(key)
	if !ok {
		return nil
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		b.fault("/"+key, "must be an array of strings")
		return nil
	}
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = b.text(key+"/"+strconv.Itoa(i), item)
	}
	return texts
}

// givenMetadata is an object of paths and values, each a string, a number, a boolean or null.
func (b *body) givenMetadata(key string) (list []webtrigger.MetadataValue) {
	raw := b.givenObject(key)
	if raw == nil {
		return nil
	}
	members, _, _ := strictjson.Parse(raw) // it is an object
	for _, m := range members {
		value, isText := strictjson.String(m.Raw)
		if !isText {
			value = string(m.Raw)
		}
		if !isText && (m.Raw[0] == '{' || m.Raw[0] == '[') {
			b.fault("/"+key, "must have only strings, numbers, booleans and nulls")
		}
		list = append(list, webtrigger.MetadataValue{Path: m.Key, Value: value})
	}
	return list
}

// givenObject is a JSON object as it was sent, nil when it is absent.
func (b *body) givenObject(key string) json.RawMessage {
	raw, ok := b.given(key)
	if ok && !strictjson.IsObject(raw) {
		b.fault("/"+key, "must be a JSON object")
		return nil
	}
	if !ok {
		return nil
	}
	return raw
}
