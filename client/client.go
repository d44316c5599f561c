// Package client talks to a Web Trigger service from Go. It needs the standard
// library only.
//
//	c, err := client.New("https://app.example.com", key, nil)
//	for event, err := range c.Stream(ctx, triggerID) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(event.Type)
//	}
package client

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// DefaultMaxRetries is how often in a row a Client tries again, unless its
// Options say otherwise.
const DefaultMaxRetries = 10

// Options is everything about a Client that has a default.
type Options struct {
	// HTTPClient makes the requests. nil: one with Go's default transport. Its
	// Timeout does not apply to streams.
	HTTPClient *http.Client

	// MaxRetries is how often in a row something is tried again that may succeed
	// later, with growing pauses of up to 30 s. 0: DefaultMaxRetries. Negative:
	// until the context ends.
	MaxRetries int

	// Logger is told of what is tried again. nil discards.
	Logger *slog.Logger
}

// Client calls a Web Trigger service with one API key. Its methods are safe for
// concurrent use.
type Client struct {
	base string // without a slash at its end
	key  string
	opts Options
}

// New returns a Client of the service at baseURL, the URL that the paths
// /api/v1/… stand on; it may carry a path of its own. The key is an API key's
// secret. The options may be nil and are copied.
func New(baseURL, key string, opts *Options) (*Client, error) {
	base, err := url.Parse(baseURL)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" ||
		base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, errors.New("client: the base URL must be an absolute http or https URL without query, fragment and user")
	}
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("client: the key must be visible ASCII characters")
	}
	c := &Client{base: strings.TrimRight(baseURL, "/"), key: key}
	if opts != nil {
		c.opts = *opts
	}
	if c.opts.HTTPClient == nil {
		c.opts.HTTPClient = &http.Client{}
	}
	if c.opts.MaxRetries == 0 {
		c.opts.MaxRetries = DefaultMaxRetries
	}
	if c.opts.Logger == nil {
		c.opts.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// trigger is the URL of something of a trigger.
func (c *Client) trigger(id int64, leaf string) string {
	return c.base + "/api/v1/web-triggers/" + strconv.FormatInt(id, 10) + "/" + leaf
}

// Error is an answer of the service that is an error: problem details (RFC 9457),
// as far as the answer has them.
type Error struct {
	Status    int    // the HTTP status
	Code      string // stable; "" when the answer is not the service's own
	Detail    string // for people
	RequestID string // leads operators to their log
}

func (e *Error) Error() string {
	text := fmt.Sprintf("client: status %d", e.Status)
	for _, s := range []string{e.Code, e.Detail} {
		if s != "" {
			text += ": " + s
		}
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// temporary reports whether the same request may succeed later.
func (e *Error) temporary() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
