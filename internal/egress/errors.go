package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Blocked reports that the guard blocks a URL, a name or an address. It is final: the same input is blocked again until
// the policy or the DNS answer changes. Rule is a short stable word. Detail is a sentence that may be shown to the
// sender of the URL: it contains no part of the URL and no result of a lookup.
type Blocked struct{ Rule, Detail string }

// Error returns the detail and the rule.
func (r *Blocked) Error() string { return r.Detail + " (" + r.Rule + ")" }

func block(rule, detail string) *Blocked { return &Blocked{Rule: rule, Detail: detail} }

// The words that [Class] returns; they go into the delivery log and do not change.
const (
	ClassBlocked  = "blocked"  // the guard blocked the URL or an address: a *Blocked
	ClassDNS      = "dns"      // the name does not exist, or no name server gave an answer
	ClassConnect  = "connect"  // no address accepted the TCP connection
	ClassTLS      = "tls"      // handshake or certificate: no acceptable TLS connection
	ClassTimeout  = "timeout"  // the deadline passed, or the network gave up waiting
	ClassCanceled = "canceled" // the caller's context was canceled
	ClassBroken   = "broken"   // the connection ended before the answer's head was complete
	ClassProtocol = "protocol" // the answer is not HTTP/1.x, its head is over 32 KiB, or ends in the middle of a line
	ClassInternal = "internal" // a mistake on this side, such as a header that cannot be written; nothing was sent
)

// Class returns the kind of an error of this package: one of the Class constants. For nil it returns "", and for an error
// of another package ClassInternal.
func Class(err error) string {
	if err == nil {
		return ""
	}
	if r := (*Blocked)(nil); errors.As(err, &r) {
		return ClassBlocked
	}
	if f := (*failure)(nil); errors.As(err, &f) {
		return f.class
	}
	return ClassInternal
}

// failure is every error that is not a Blocked. Its text consists of fixed sentences. The texts of net, crypto/tls and
// net/http quote data of the peer, which may contain the URL's query, and name servers inside the operator's network.
// The cause is there for errors.Is and errors.As.
type failure struct {
	class, text string
	cause       error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// fail turns the error of one step into a failure of the given class. If the context has ended, the class is that of
// the context's end, because the error of the step is only its effect. A Blocked is returned as it is.
func fail(ctx context.Context, class, step string, err error) error {
	if r := (*Blocked)(nil); errors.As(err, &r) {
		return r
	}
	switch ended := ctx.Err(); {
	case errors.Is(ended, context.Canceled):
		return &failure{ClassCanceled, step + ": canceled", errors.Join(ended, err)}
	case ended != nil:
		return &failure{ClassTimeout, step + ": out of time", errors.Join(ended, err)}
	case class != ClassDNS && isTimeout(err):
		return &failure{ClassTimeout, step + ": out of time", err}
	}
	return &failure{class, step + ": " + reason(class, err), err}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// exchangeClass returns the class of an error after the request was sent.
func exchangeClass(err error) string {
	if op := (*net.OpError)(nil); errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") {
		return ClassTLS // crypto/tls reports alerts so: with TLS 1.3 a rejected client gets it only here
	}
	var (
		record tls.RecordHeaderError
		errno  syscall.Errno
	)
	switch {
	case errors.As(err, &record):
		return ClassTLS
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, &errno):
		return ClassBroken
	}
	return ClassProtocol
}

func reason(class string, err error) string {
	var (
		dns     *net.DNSError
		errno   syscall.Errno
		host    x509.HostnameError
		ca      x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such name"
	case errors.As(err, &dns) && dns.IsTimeout:
		return "the name servers did not answer"
	case class == ClassDNS:
		return "the name servers gave no usable answer"
	case errors.As(err, &host):
		return "the certificate is for another name"
	case errors.As(err, &ca):
		return "the certificate is signed by an unknown authority"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired or is not yet valid"
	case errors.As(err, &invalid):
		return "the certificate is not valid for this use"
	case errors.As(err, &record):
		return "the peer does not speak TLS"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "the connection was closed"
	case errors.As(err, &errno):
		return errno.Error()
	case class == ClassProtocol:
		return "not a valid HTTP/1.1 answer with a head of at most 32 KiB"
	case class == ClassTLS:
		return tlsText(err)
	case class == ClassInternal:
		return "the request could not be written"
	}
	return "failed"
}

// tlsText returns the text of crypto/tls about a handshake, which is mostly useful ("remote error: tls: handshake
// failure"). It makes the text short and printable, because certificates contain text of their own.
func tlsText(err error) string {
	const most = 120
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, err.Error())
	return text[:min(len(text), most)]
}
