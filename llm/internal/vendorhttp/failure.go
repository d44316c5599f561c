package vendorhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/webtrigger-go/webtrigger/internal/wire"
	"github.com/webtrigger-go/webtrigger/llm"
)

// rejection is a response without an answer.
type rejection struct {
	status int
	kind   string // media type
	header http.Header
	text   []byte
}

func (r *rejection) Error() string { return statusText(r.status) }

// Failed returns the error of a call for the caller of the model: the caller's cause
// if its context has ended, else an *llm.Error.
func (c *Call) Failed(err error) error {
	if c.caller.Err() != nil {
		return context.Cause(c.caller)
	}
	rejected := new(rejection)
	switch {
	case errors.As(err, &rejected):
		return c.vendor.rejected(rejected)
	case context.Cause(c.ctx) == errIdle:
		return c.vendor.fail(true, fmt.Sprintf("no data for %v", c.vendor.idle), "")
	case c.broken == errLarge:
		return c.TooLarge()
	case c.broken != nil:
		return c.vendor.fail(true, "the connection was cut", c.broken.Error())
	case c.answered:
		return c.vendor.fail(true, "a malformed event", err.Error())
	case !c.sent:
		return c.vendor.fail(false, "the request could not be made", err.Error())
	}
	if sent := new(url.Error); errors.As(err, &sent) {
		err = sent.Err // without the URL
	}
	untrusted := new(tls.CertificateVerificationError)
	return c.vendor.fail(!errors.As(err, &untrusted), "the connection failed", err.Error())
}

// InStream returns the error of a call whose response carried an error document.
func (c *Call) InStream(document []byte) error {
	if c.caller.Err() != nil {
		return context.Cause(c.caller)
	}
	fault, ok := ReadFault(document)
	if !ok {
		fault = Fault{Message: string(document)}.rated()
	}
	label := fault.label()
	if label == "" && fault.Status != 0 {
		label = " (" + strconv.Itoa(fault.Status) + ")"
	}
	again := fault.Status == 0 || passes(fault.Status) || fault.Slip
	what := "an error in the stream"
	if c.document {
		what = "an error instead of an answer"
	}
	return c.vendor.fail(again, what+label, c.vendor.detail(fault, nil, document))
}

// Unsupported returns the error of an answer that has a part of a type that cannot be
// a part of a text.
func (c *Call) Unsupported(kind string) error {
	label := ""
	if codeWord.MatchString(kind) {
		label = " (" + kind + ")"
	}
	return c.vendor.fail(false, "the answer has content of an unsupported type"+label, "")
}

// NoAnswer returns the error of a call whose response is a JSON document that is
// neither an answer nor an error.
func (c *Call) NoAnswer(kind string, document []byte) error {
	return c.vendor.rejected(&rejection{status: http.StatusOK, kind: kind, text: document[:min(len(document), maxRejection)]})
}

// Cut returns the error of a call whose stream ended before the answer did.
func (c *Call) Cut() error {
	if c.caller.Err() != nil {
		return context.Cause(c.caller)
	}
	return c.vendor.fail(true, "the stream ended before the answer was complete", "")
}

// TooLarge returns the error of a call whose answer exceeds the limits.
func (c *Call) TooLarge() error {
	return c.vendor.fail(false, "the answer is too large", "")
}

// rejected returns the error of a response without an answer.
func (v *Vendor) rejected(r *rejection) error {
	fault, ok := ReadFault(r.text)
	if doc, isObject := object(r.text); !ok && isObject {
		fault = doc.fault() // by its status it is an error, in any shape
	}
	detail := v.detail(fault, r.header, r.text)
	if r.status/100 == 2 {
		return v.fail(passes(fault.Status), fmt.Sprintf("the answer is %s, not an event stream%s", r.kind, fault.label()), detail)
	}
	passing := passes(r.status) || fault.Slip && r.status == http.StatusBadRequest
	switch r.header.Get("X-Should-Retry") { // both vendors may send it
	case "true":
		passing = true
	case "false":
		passing = false
	}
	failure := v.fail(passing && fault.Status != http.StatusPaymentRequired, statusText(r.status)+fault.label(), detail)
	if failure.Retryable {
		failure.RetryAfter = RetryAfter(r.header)
	}
	return &Rejected{Status: r.status, Fault: fault, text: string(r.text), err: failure}
}

// Rejected is an *llm.Error of a request that the vendor rejected, with the details
// that an adapter needs to send another form of it.
type Rejected struct {
	Status int
	Fault  Fault
	text   string
	err    *llm.Error
}

func (r *Rejected) Error() string { return r.err.Error() }
func (r *Rejected) Unwrap() error { return r.err }

// Form reports whether the form of the request may be the reason.
func (r *Rejected) Form() bool {
	return r.Status == http.StatusBadRequest || r.Status == http.StatusUnprocessableEntity
}

// Mentions reports whether the vendor's text names a field.
func (r *Rejected) Mentions(field string) bool {
	return strings.Contains(r.Fault.Param, field) || strings.Contains(r.text, field)
}

// passes reports whether a later attempt may succeed after a status.
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

func (v *Vendor) fail(again bool, what, detail string) *llm.Error {
	return &llm.Error{Err: errors.New(v.name + ": " + v.redact(what)), Retryable: again, Detail: v.clean(detail)}
}

// label is the code of an error for texts that callers may read: a word, and nothing
// that only resembles one.
func (f Fault) label() string {
	for _, word := range []string{f.Code, f.Type} {
		if codeWord.MatchString(word) {
			return " (" + word + ")"
		}
	}
	return ""
}

var codeWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.]{0,63}$`)

// detail is the vendor's text, or the document itself if it has none.
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

// clean makes a vendor's text one line of bounded length without secrets.
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
