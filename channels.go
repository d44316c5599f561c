package webtrigger

import (
	"context"
	"fmt"
)

// Channel is the settings of the Web Trigger channel of one assistant. The zero value
// is disabled.
type Channel struct {
	AssistantID       string
	Enabled           bool // if false, new triggers are rejected; existing runs continue
	AllowCallbackURLs bool // checked when a trigger is created; disabling it does not cancel pending callbacks
}

// Channel returns the settings of an assistant. If none were set, the channel is
// disabled. It returns ErrNotFound if the assistant id is invalid.
func (s *Service) Channel(ctx context.Context, assistantID string) (Channel, error) {
	if !ValidAssistantID(assistantID) {
		return Channel{}, ErrNotFound
	}
	return s.store.Channel(ctx, assistantID)
}

// SetChannel stores the settings of an assistant. They apply from the next trigger
// on. It returns a [RequestError] if the assistant id is invalid.
func (s *Service) SetChannel(ctx context.Context, settings Channel) error {
	if !ValidAssistantID(settings.AssistantID) {
		return &RequestError{Faults: []Fault{{"/assistant_id", assistantIDRule}}}
	}
	if err := s.store.SetChannel(ctx, settings); err != nil {
		return fmt.Errorf("set channel: %w", err)
	}
	s.log.InfoContext(ctx, "channel set", "assistant_id", settings.AssistantID,
		"enabled", settings.Enabled, "allow_callback_urls", settings.AllowCallbackURLs)
	return nil
}

// Assistants lists the ids that have channel settings, signing secrets or API keys,
// in ascending order, after the given id; "" starts at the first. If limit is zero,
// it is DefaultPageSize. Maximum: MaxPageSize. Other assistants of the host are not
// listed.
func (s *Service) Assistants(ctx context.Context, after string, limit int) ([]string, error) {
	return s.store.Assistants(ctx, after, Page{Limit: limit}.withDefaults().Limit)
}

const assistantIDRule = "must be 1 to 128 characters out of A-Z a-z 0-9 - . _ ~"

// ValidAssistantID reports whether id can identify an assistant. It must have 1 to
// 128 unreserved characters of RFC 3986 §2.3 (A-Z a-z 0-9 - . _ ~) and must not be
// "." or "..". Such an id needs no escaping in a path. A [Store] and an [Authorizer]
// receive only valid ids.
func ValidAssistantID(id string) bool {
	if len(id) < 1 || len(id) > 128 || id == "." || id == ".." {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			c == '-', c == '.', c == '_', c == '~':
		default:
			return false
		}
	}
	return true
}

// DefaultPageSize is the maximum number of items in a list whose limit is 0.
const DefaultPageSize = 50

// MaxPageSize is the maximum number of items in a list.
const MaxPageSize = 200

func (p Page) withDefaults() Page {
	if p.Limit <= 0 {
		p.Limit = DefaultPageSize
	}
	p.Limit = min(p.Limit, MaxPageSize)
	return p
}
