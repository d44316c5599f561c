package webtrigger

import (
	"context"
	"net/http"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// StubCallbacks replaces the network under callbacks: connect stands for DNS,
// TCP and TLS, post for the exchange.
func (s *Service) StubCallbacks(connect func() error, post func(body []byte) (status int, err error)) {
	s.StubReceivers(func(string) error { return connect() }, func(e Exchange) (*egress.Response, error) {
		status, err := post(e.Body)
		if err != nil {
			return nil, err
		}
		return &egress.Response{Status: status}, nil
	})
}

// Exchange is one POST of a callback.
type Exchange struct {
	URL    string
	Header http.Header
	Body   []byte
}

// StubReceivers is StubCallbacks for tests with several receivers.
func (s *Service) StubReceivers(connect func(url string) error, post func(Exchange) (*egress.Response, error)) {
	s.connect = stubConnector{connect, post}
}

type stubConnector struct {
	open func(string) error
	post func(Exchange) (*egress.Response, error)
}

func (c stubConnector) connect(_ context.Context, url string) (callbackConn, error) {
	if err := c.open(url); err != nil {
		return nil, err
	}
	return stubConn{c, url}, nil
}

type stubConn struct {
	stubConnector
	url string
}

func (c stubConn) Post(_ context.Context, header http.Header, body []byte) (*egress.Response, error) {
	return c.post(Exchange{c.url, header, body})
}

func (c stubConn) Close() error { return nil }

// SetGuard replaces the guard, at accept and at delivery.
func (s *Service) SetGuard(policy egress.Policy) error {
	guard, err := egress.New(policy)
	if err == nil {
		s.guard, s.connect = guard, guardedConnector{guard}
	}
	return err
}

// RetryAfter reads the header of that name.
func RetryAfter(h http.Header, now time.Time) time.Duration { return retryAfter(h, now) }

// Prompt is what the assistant sees.
func Prompt(message string, context []byte) string { return prompt(message, context) }

// DecodeTrigger, BearerKey and ParseCursor are the parsers of what arrives from
// outside.
func DecodeTrigger(body []byte) (TriggerRequest, []Fault, error) {
	req, found, err := decodeTrigger(body)
	return req, found, err
}

func BearerKey(headers []string) (hash KeyHash, sent, ok bool) { return bearerKey(headers) }

func ParseCursor(s string) (int64, bool) { return parseCursor(s) }

// KeyUses remembers which keys were stamped.
type KeyUses struct{ uses keyUses }

// Due reports whether a key must be stamped.
func (u *KeyUses) Due(keyID int64, now time.Time) bool { return u.uses.due(keyID, now) }

// Len returns how many keys are remembered.
func (u *KeyUses) Len() int { return len(u.uses.stamped) + len(u.uses.older) }
