package webtrigger

import (
	"context"
	"net/http"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// StubCallbacks replaces the network under callbacks: connect stands for DNS,
// TCP and TLS, post for the exchange.
func (s *Service) StubCallbacks(connect func() error, post func(body []byte) (status int, err error)) {
	s.connect = stubConnector{connect, post}
}

type stubConnector struct {
	open func() error
	post func([]byte) (int, error)
}

func (c stubConnector) connect(context.Context, string) (callbackConn, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c stubConnector) Post(_ context.Context, _ http.Header, body []byte) (*egress.Response, error) {
	status, err := c.post(body)
	if err != nil {
		return nil, err
	}
	return &egress.Response{Status: status}, nil
}

func (c stubConnector) Close() error { return nil }

// Transitions is the run's state machine as the code has it.
func Transitions() map[RunStatus][]RunStatus { return transitions() }

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
