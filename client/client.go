// Package client is the other side of the Web Trigger channel, for Go programs
// that trigger it, follow what they triggered, or receive its callbacks. It
// needs the standard library only.
//
//	c, err := client.New("https://app.example.com", key, nil)
//	accepted, err := c.Trigger(ctx, "1", client.TriggerRequest{Message: "Write the nightly report"})
//	status, err := c.Wait(ctx, accepted.TriggerID)
//	fmt.Println(status.Status, *status.Result)
package client

import (
	"errors"
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
	// Timeout bounds each attempt of Trigger, Status and Cancel; it does not apply
	// to Wait and to streams. Redirects are not followed, whatever it says: a POST
	// would become a GET, and the key might leave the service.
	HTTPClient *http.Client

	// MaxRetries is how often in a row something is tried again that may succeed
	// later, with growing pauses of up to 30 s, or longer ones where the service
	// asks for them by Retry-After. 0: DefaultMaxRetries. Negative: until the
	// context ends.
	MaxRetries int

	// Logger is told of what is tried again. nil discards.
	Logger *slog.Logger
}

// Client calls a Web Trigger service with one API key. Its methods are safe for
// concurrent use.
//
// An answer that is an error is an [*Error]. A lost connection and an answer that
// may be another one later are tried again, see [Options.MaxRetries]; when that is
// used up, the error is what was wrong last. When ctx ends, the error is its
// cause.
type Client struct {
	base string // without a slash at its end
	key  string
	opts Options
	http http.Client // the one of opts, as this package uses it
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
	if key == "" || !visible(key) {
		return nil, errors.New("client: the key must be visible ASCII characters")
	}
	c := &Client{base: strings.TrimRight(baseURL, "/"), key: key}
	if opts != nil {
		c.opts = *opts
	}
	if c.opts.HTTPClient != nil {
		c.http = *c.opts.HTTPClient
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
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

// visible reports whether s has visible ASCII characters only.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
