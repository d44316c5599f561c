package vendorhttp

import (
	"errors"
	"html"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config describes one vendor's API.
type Config struct {
	// Name is the first word of errors.
	Name string

	// Key, Header and Query are the credentials and the values that the host adds to
	// each request. Secrets among them never appear in an error or a log record.
	Key    string
	Header http.Header
	Query  url.Values

	// Idle is how long the vendor may be silent. If zero, it is DefaultIdleTimeout.
	Idle time.Duration

	// Logger receives warnings about answers. If nil, they are discarded.
	Logger *slog.Logger
}

// Vendor makes calls to one vendor's API.
type Vendor struct {
	name   string
	idle   time.Duration
	log    *slog.Logger
	redact func(string) string // a closure: printing a Vendor prints no key
}

// NewVendor returns a Vendor.
func NewVendor(c Config) *Vendor {
	if c.Idle <= 0 {
		c.Idle = DefaultIdleTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Vendor{name: c.Name, idle: c.Idle, log: c.Logger, redact: redactor(c)}
}

// redactor returns a function that replaces the secrets of a Config.
func redactor(c Config) func(string) string {
	secrets := []string{c.Key}
	for _, named := range []map[string][]string{c.Header, c.Query} {
		for name, values := range named {
			if !secretName(name) {
				continue
			}
			for _, v := range values {
				_, after, _ := strings.Cut(v, " ") // Bearer and its like
				secrets = append(secrets, v, after)
			}
		}
	}
	secrets = slices.DeleteFunc(secrets, func(s string) bool { return len(s) < 8 }) // replacing a shorter one would only garble the text
	for _, s := range slices.Clone(secrets) {                                       // in the forms of a URL and of a page that repeats it
		secrets = append(secrets, url.QueryEscape(s), url.PathEscape(s), html.EscapeString(s))
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // whole values before their parts
	var pairs []string
	for _, s := range secrets {
		pairs = append(pairs, s, "[API key]")
	}
	return strings.NewReplacer(pairs...).Replace
}

func secretName(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"key", "auth", "token", "secret", "password", "cookie", "sig"}, func(part string) bool {
		return strings.Contains(name, part)
	})
}

// CheckKey rejects keys that cannot be sent in a header.
func CheckKey(key string) error {
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("API key must have visible ASCII characters only")
	}
	return nil
}

// CheckHeader rejects header fields that cannot be sent. The error does not show the
// value.
func CheckHeader(header http.Header) error {
	for name, values := range header {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
			return errors.New("header name contains an invalid character")
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return errors.New("value of the header " + name + " contains a control character")
			}
		}
	}
	return nil
}

// Endpoint is the URL of an operation: the path joined to a base URL, with a query.
// The base must be an absolute http or https URL. The error does not show it.
func Endpoint(base, path string, query url.Values) (string, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("base URL must be an absolute http or https URL, such as https://api.example.com/v1") // not shown: it may hold a password
	}
	u = u.JoinPath(path)
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// AddHeader adds the header fields of the host to those of an adapter, after a check of
// the key. They replace the adapter's.
func AddHeader(header http.Header, key string, more http.Header) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := CheckHeader(more); err != nil {
		return err
	}
	for name, values := range more {
		header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	return nil
}
