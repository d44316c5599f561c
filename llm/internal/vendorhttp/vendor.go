package vendorhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/webtrigger-go/webtrigger/internal/wire"
	"github.com/webtrigger-go/webtrigger/llm"
)

// Vendor judges what goes wrong with one vendor's API.
type Vendor struct {
	name   string
	idle   time.Duration
	parse  func(document []byte) Fault
	redact func(string) string // a closure: printing a Vendor prints no key
}

// Fault is what a vendor says of an error, in its own words.
type Fault struct {
	Type, Code, Param, Message string

	// Status is the HTTP status that such a fault has, for faults that come inside
	// of a stream. 0: not known. StatusPaymentRequired marks what only the account's
	// owner can change, whatever the status of the response: no attempt will do.
	Status int
}

// NewVendor returns a Vendor. name begins its errors; the key never appears in
// them; idle is how long it may be silent, 0 is DefaultIdleTimeout; parse reads the
// document that the vendor sends for an error, and gets anything at all.
func NewVendor(name, key string, idle time.Duration, parse func(document []byte) Fault) *Vendor {
	if idle <= 0 {
		idle = DefaultIdleTimeout
	}
	redact := func(s string) string { return s }
	if len(key) >= 8 { // replacing a shorter one would only garble what is said
		redact = func(s string) string { return strings.ReplaceAll(s, key, "[API key]") }
	}
	return &Vendor{name: name, idle: idle, parse: parse, redact: redact}
}

// CheckKey refuses keys that cannot be sent in a header.
func CheckKey(key string) error {
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the API key has white space or other characters that no key has")
	}
	return nil
}

// CheckBaseURL refuses what is no absolute http or https URL.
func CheckBaseURL(base string) error {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("the base URL is not like https://api.example.com/v1") // not shown: it may hold a password
	}
	return nil
}

// refusal is an answer that is no event stream.
type refusal struct {
	status int
	kind   string // media type
	header http.Header
	text   []byte
}

func (r *refusal) Error() string { return statusText(r.status) }

// Failed makes the error of a call what a model returns: the caller's cause when
// its context has ended, else an *llm.Error.
func (c *Call) Failed(err error) error {
	if c.caller.Err() != nil {
		return context.Cause(c.caller)
	}
	refused := new(refusal)
	switch {
	case errors.As(err, &refused):
		return c.vendor.refused(refused)
	case context.Cause(c.ctx) == errIdle:
		return c.vendor.fail(true, fmt.Sprintf("no data for %v", c.vendor.idle), "")
	case c.broken == errLarge:
		return c.TooLarge()
	case c.broken != nil:
		return c.vendor.fail(true, "the connection was cut", c.broken.Error())
	case c.answered:
		return c.vendor.fail(true, "a malformed event", err.Error())
	case !c.sent: // options of the SDK that contradict each other, for example
		return c.vendor.fail(false, "the request could not be made", err.Error())
	}
	if sent := new(url.Error); errors.As(err, &sent) {
		err = sent.Err // without the URL
	}
	untrusted := new(tls.CertificateVerificationError)
	return c.vendor.fail(!errors.As(err, &untrusted), "the connection failed", err.Error())
}

// InStream is the error of a call whose stream carried an error document.
func (c *Call) InStream(document []byte) error {
	if c.caller.Err() != nil {
		return context.Cause(c.caller)
	}
	fault := c.vendor.parse(document)
	return c.vendor.fail(fault.Status == 0 || passes(fault.Status), "an error in the stream"+fault.label(), c.vendor.detail(fault, nil, document))
}

// Cut is the error of a call whose stream ended before the answer did.
func (c *Call) Cut() error {
	if c.caller.Err() != nil {
		return context.Cause(c.caller)
	}
	return c.vendor.fail(true, "the stream ended before the answer was complete", "")
}

// TooLarge is the error of a call whose answer nobody can use.
func (c *Call) TooLarge() error {
	return c.vendor.fail(false, "the answer is too large", "")
}

// refused judges an answer that is no event stream.
func (v *Vendor) refused(r *refusal) error {
	fault := v.parse(r.text)
	detail := v.detail(fault, r.header, r.text)
	if r.status/100 == 2 {
		return v.fail(passes(fault.Status), fmt.Sprintf("the answer is %s, not an event stream%s", r.kind, fault.label()), detail)
	}
	passing := passes(r.status)
	switch r.header.Get("X-Should-Retry") { // both vendors' own word on it
	case "true":
		passing = true
	case "false":
		passing = false
	}
	failure := v.fail(passing && fault.Status != http.StatusPaymentRequired, statusText(r.status)+fault.label(), detail)
	if failure.Retryable {
		failure.RetryAfter = RetryAfter(r.header)
	}
	return &Refused{Status: r.status, Fault: fault, err: failure}
}

// Refused is an *llm.Error of a request that the vendor refused, with what an
// adapter may want to know of it.
type Refused struct {
	Status int
	Fault  Fault
	err    *llm.Error
}

func (r *Refused) Error() string { return r.err.Error() }
func (r *Refused) Unwrap() error { return r.err }

// passes reports whether a status is one of those that may be gone next time.
func passes(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= 500
}

func statusText(status int) string {
	text := http.StatusText(status)
	if status == statusOverloaded {
		text = "Overloaded"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, text))
}

// statusOverloaded is not registered; Anthropic answers with it under high load.
const statusOverloaded = 529

func (v *Vendor) fail(passing bool, what, detail string) *llm.Error {
	return &llm.Error{Err: errors.New(v.name + ": " + v.redact(what)), Retryable: passing, Detail: v.clean(detail)}
}

// label is the fault's code for an error that callers may read: a word, and
// nothing that only looks like one.
func (f Fault) label() string {
	for _, word := range []string{f.Code, f.Type} {
		if word != "" && codeWord.MatchString(word) {
			return " (" + word + ")"
		}
	}
	return ""
}

var codeWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.]{0,63}$`)

// detail is what the vendor says, or what it sent when that says nothing.
func (v *Vendor) detail(fault Fault, header http.Header, document []byte) string {
	text := fault.Message
	if text == "" {
		text = string(document)
	}
	if fault.Param != "" {
		text += ", param " + fault.Param
	}
	for _, name := range []string{"Request-Id", "X-Request-Id"} {
		if id := header.Get(name); id != "" {
			return text + ", request " + id
		}
	}
	return text
}

// maxDetail bounds a vendor's text in a log, in bytes.
const maxDetail = 2 << 10

// clean makes a vendor's text one line of bounded length without the key.
func (v *Vendor) clean(text string) string {
	text = v.redact(wire.ValidText(text)) // before the cut, which might leave half a key
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, wire.Truncate(text, maxDetail))
	return strings.TrimSpace(text)
}
