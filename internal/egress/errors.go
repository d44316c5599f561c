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

// Refusal reports that the guard blocks a URL, a name or an address. It is final: the same input is blocked again until
// the policy or the DNS answer changes. Rule is a short stable word. Detail is a sentence that may be shown to the
// sender of the URL: it contains no part of the URL and no result of a lookup.
type Refusal struct{ Rule, Detail string }

// Error returns the detail and the rule.
func (r *Refusal) Error() string { return r.Detail + " (" + r.Rule + ")" }

func refuse(rule, detail string) *Refusal { return &Refusal{Rule: rule, Detail: detail} }

// The words that [Class] returns; they go into the delivery log and do not change.
const (
	ClassBlocked  = "blocked"  // the guard refused the URL or an address: a *Refusal
	ClassDNS      = "dns"      // the name does not exist, or no name server gave an answer
	ClassConnect  = "connect"  // no address accepted the TCP connection
	ClassTLS      = "tls"      // handshake or certificate: no acceptable TLS connection
	ClassTimeout  = "timeout"  // the deadline passed, or the network gave up waiting
	ClassCanceled = "canceled" // the caller's context was canceled
	ClassBroken   = "broken"   // the connection ended before the answer's head was complete
	ClassProtocol = "protocol" // the answer is not HTTP/1.x, its head is over 32 KiB, or ends in the middle of a line
	ClassInternal = "internal" // a mistake on this side, such as a header that cannot be written; nothing was sent
)

// Class names the kind of an error of this package by one of the Class constants; it is "" for nil and ClassInternal for
// an error from elsewhere.
func Class(err error) string {
	if err == nil {
		return ""
	}
	if r := (*Refusal)(nil); errors.As(err, &r) {
		return ClassBlocked
	}
	if f := (*failure)(nil); errors.As(err, &f) {
		return f.class
	}
	return ClassInternal
}

// failure is every error that is not a Refusal. Its text is made here from fixed sentences, because the texts of net,
// crypto/tls and net/http quote what the peer sent (which may echo the URL's query back) and name servers inside the
// operator's network. The cause is there for errors.Is and errors.As.
type failure struct {
	class, text string
	cause       error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// fail turns the error of one step into a failure of the given class. An ended context outranks the class, since what a
// step reports then is only how it noticed; a Refusal from inside the step is returned as it is.
func fail(ctx context.Context, class, step string, err error) error {
	if r := (*Refusal)(nil); errors.As(err, &r) {
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

// exchangeClass sorts what can go wrong once the request is on its way.
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

// tlsText keeps what crypto/tls says of a handshake, which is mostly worth reading ("remote error: tls: handshake
// failure"), but short and printable, for certificates bring text of their own.
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
