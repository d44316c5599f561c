package webtrigger

import (
	"context"
	"fmt"
)

// Channel says what the Web Trigger channel of one assistant accepts.
// The zero value is off.
type Channel struct {
	AssistantID       string
	Enabled           bool // off refuses new triggers; what was accepted goes on
	AllowCallbackURLs bool // decided at accept; turning it off takes no owed callback back
}

// Channel returns the settings of an assistant; one that was never set up is
// off.
func (s *Service) Channel(ctx context.Context, assistantID string) (Channel, error) {
	if !ValidAssistantID(assistantID) {
		return Channel{}, ErrNotFound
	}
	return s.store.Channel(ctx, assistantID)
}

// SetChannel stores the settings of an assistant. They act on the next trigger.
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

// Assistants lists the ids that have channel settings or keys, in ascending
// order, those after the given id. The library knows no others: assistants are
// the host's.
func (s *Service) Assistants(ctx context.Context, after string, limit int) ([]string, error) {
	return s.store.Assistants(ctx, after, Page{Limit: limit}.withDefaults().Limit)
}

const assistantIDRule = "must be 1 to 128 characters out of A-Z a-z 0-9 - . _ ~"

// ValidAssistantID reports whether a host's id can name an assistant here: 1 to
// 128 unreserved characters of RFC 3986 §2.3 (A-Z a-z 0-9 - . _ ~), other than
// "." and "..", so that it stands in a path as it is. No other id ever reaches a
// [Store] or an [Authorizer].
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

// DefaultPageSize is how many items a list returns when its limit is 0.
const DefaultPageSize = 50

// MaxPageSize is how many items a list returns at most.
const MaxPageSize = 200

func (p Page) withDefaults() Page {
	if p.Limit <= 0 {
		p.Limit = DefaultPageSize
	}
	p.Limit = min(p.Limit, MaxPageSize)
	return p
}
