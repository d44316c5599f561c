// Package vendorhttp is what the models of vendors share: one exchange over HTTP
// that cannot hang or fill the memory, the events of its response, the meaning of
// errors and finish reasons, and the answer that the events make up.
//
// It depends on the standard library only. It accepts what servers send that only
// resemble a vendor's own, as far as the meaning is clear. Retries are not here:
// llm.Retrier is the place for those.
package vendorhttp

import (
	"net/http"
	"time"
)

// Limits of what a vendor may send.
const (
	// MaxAnswer bounds the text and the tool calls of one answer, in bytes.
	MaxAnswer = 4 << 20

	maxStream    = 64 << 20 // a whole response, framing included
	maxEvent     = 32 << 20 // one event, or a response without a stream
	maxRejection = 64 << 10 // the body of a rejected request
)

// DefaultIdleTimeout is how long a vendor may be silent.
const DefaultIdleTimeout = 5 * time.Minute

// Client returns a copy of base that follows no redirect: a vendor's API does not
// need one, and Go would send a key in a custom header to another host.
// If base is nil, it is http.DefaultClient.
func Client(base *http.Client) *http.Client {
	if base == nil {
		base = http.DefaultClient
	}
	client := *base
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}
