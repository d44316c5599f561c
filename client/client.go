// Package client is the caller's side of the Web Trigger channel, for Go programs
// that trigger a run, follow it, or receive its callback. It needs the standard
// library only.
//
//	c, err := client.New("https://app.example.com", key, nil)
//	accepted, err := c.Trigger(ctx, "1", client.TriggerRequest{Message: "Write the nightly report"})
//	status, err := c.Wait(ctx, accepted.TriggerID)
//	if err == nil && status.Status == "completed" {
//		fmt.Println(*status.Result)
//	}
package client

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// DefaultMaxRetries is the default of [Options.MaxRetries].
const DefaultMaxRetries = 10

// Options configures a Client. The zero value is ready to use.
type Options struct {
	// HTTPClient sends the requests. If nil, the Client uses Go's default transport.
	// Its Timeout bounds each attempt of Trigger, Status and Cancel, but not Wait and
	// streams. Redirects are never followed: a POST would become a GET, and the key
	// might leave the service.
	HTTPClient *http.Client

	// MaxRetries is the maximum number of retries in a row after temporary errors. The
	// pauses grow up to 30 s, or to a longer Retry-After. If zero, it is
	// DefaultMaxRetries. If negative, the Client retries until the context ends.
	MaxRetries int

	// Logger receives a record for each retry. If nil, they are discarded.
	Logger *slog.Logger
}

// Client calls a Web Trigger service with one API key. Its methods are safe for
// concurrent use.
//
// A response that is an error is returned as an [*Error]. The Client retries after
// a lost connection and after a temporary error: 408, 425, 429, and any temporary 5xx,
// also those of a CDN in front of the service. After [Options.MaxRetries] retries, it
// returns the last error. If ctx ends, it returns the cause.
type Client struct {
	base string // without a slash at its end
	key  string
	opts Options
	http http.Client // a copy of Options.HTTPClient that follows no redirects
}

// New returns a Client of the service at baseURL, the URL in front of /api/v1/…. It
// may include a path. The key is the plaintext of an API key. New copies opts; if opts
// is nil, the defaults apply. It returns an error if baseURL is not an absolute http or
// https URL, or has a query, a fragment or a user, or if the key is empty or has a
// character that is not visible ASCII.
func New(baseURL, key string, opts *Options) (*Client, error) {
	base, err := url.Parse(baseURL)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" ||
		base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, errors.New("client: base URL must be an absolute http or https URL without query, fragment and user")
	}
	if key == "" || !visible(key) {
		return nil, errors.New("client: key must have visible ASCII characters only")
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

// trigger returns the URL of a trigger's status, events or cancel endpoint.
func (c *Client) trigger(id int64, leaf string) string {
	return c.base + "/api/v1/web-triggers/" + strconv.FormatInt(id, 10) + "/" + leaf
}

// visible reports whether s has visible ASCII characters only.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
