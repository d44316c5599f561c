package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/signature"
)

var (
	// ErrSignature says that a callback is not signed by a secret of the
	// [Verifier]: a header is missing, given twice or malformed, or no signature
	// fits id, time and body. Answer it with 401 and do nothing.
	ErrSignature = errors.New("webtrigger: the callback's signature is not valid")

	// ErrStale says that a callback is signed, but too long ago or too far in the
	// future: a replay, or clocks that differ.
	ErrStale = errors.New("webtrigger: the callback was not signed just now")
)

// DefaultTolerance is how far the time of a signature may be from now, either
// way, unless [VerifierOptions.Tolerance] says otherwise.
const DefaultTolerance = 5 * time.Minute

// MaxCallback bounds the body that [Verifier.Receive] reads, in bytes: a result
// of 1 MiB in which every byte is escaped fits.
const MaxCallback = 8 << 20

// Verifier tells callbacks of a sender that has the same secret from others, by
// the symmetric scheme of Standard Webhooks (https://www.standardwebhooks.com).
// It never changes and is safe for concurrent use.
type Verifier struct {
	keys      [][]byte
	tolerance time.Duration
}

// VerifierOptions is what a Verifier lets its user choose.
type VerifierOptions struct {
	// Tolerance is how far the time of a signature may be from now, either way.
	// 0: DefaultTolerance.
	Tolerance time.Duration
}

// NewVerifier takes the secrets that a callback may be signed by: one, or the
// old and the new one while the sender changes over. A secret is "whsec_" and
// the base64 of 24 to 64 bytes. The options may be nil.
func NewVerifier(secrets []string, opts *VerifierOptions) (*Verifier, error) {
	v := &Verifier{tolerance: DefaultTolerance}
	if opts != nil && opts.Tolerance != 0 {
		v.tolerance = opts.Tolerance
	}
	if v.tolerance < 0 {
		return nil, errors.New("webtrigger: Tolerance must not be negative")
	}
	if len(secrets) == 0 {
		return nil, errors.New("webtrigger: a verifier needs a secret")
	}
	for _, secret := range secrets {
		key, err := signature.ParseSecret(secret)
		if err != nil {
			return nil, fmt.Errorf("webtrigger: %w", err)
		}
		v.keys = append(v.keys, key)
	}
	return v, nil
}

// Verify checks a callback by the headers webhook-id, webhook-timestamp and
// webhook-signature and the body exactly as it came; a body that was parsed and
// written again does not verify. The error is ErrSignature or ErrStale, wrapped
// or not.
func (v *Verifier) Verify(header http.Header, body []byte) error {
	var values [3]string
	for i, name := range []string{signature.HeaderID, signature.HeaderTimestamp, signature.HeaderSignature} {
		got := header.Values(name)
		if len(got) != 1 || got[0] == "" {
			return fmt.Errorf("%w: it needs one %s", ErrSignature, name)
		}
		values[i] = got[0]
	}
	id, stamp, signatures := values[0], values[1], values[2]
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || strconv.FormatInt(unix, 10) != stamp {
		return fmt.Errorf("%w: %s is no Unix time", ErrSignature, signature.HeaderTimestamp)
	}
	// All keys are tried, so that the time taken does not tell which one fits.
	valid := false
	for _, key := range v.keys {
		valid = signature.Verify(key, signatures, id, unix, body) || valid
	}
	if !valid {
		return ErrSignature
	}
	if age := time.Since(time.Unix(unix, 0)); age > v.tolerance || age < -v.tolerance {
		return ErrStale
	}
	return nil
}

// Callback is what a callback says. The pointers are nil where it says null.
type Callback struct {
	// RunKey names the run. It is the same in every attempt and redelivery: act
	// once on each.
	RunKey string `json:"run_key"`

	// Status is completed, failed, cancelled or timed_out.
	Status         string    `json:"status"`
	StatusDetail   *string   `json:"status_detail"`
	ResultText     *string   `json:"result_text"`
	ErrorMessage   *string   `json:"error_message"`
	ConversationID int64     `json:"conversation_id"` // the trigger_id
	EventsURL      string    `json:"events_url"`
	CompletedAt    time.Time `json:"completed_at"`
}

// Receive reads the body of a callback's request, verifies it and decodes it:
// the first line of a receiver's handler. On ErrSignature and ErrStale answer
// 401; any other error is of reading or of a body that is no callback, 400.
// Answer 2xx only when what the callback says is safe with you: it may not come
// again.
func (v *Verifier) Receive(w http.ResponseWriter, r *http.Request) (*Callback, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxCallback))
	if err != nil {
		return nil, fmt.Errorf("webtrigger: read the callback: %w", err)
	}
	if err := v.Verify(r.Header, body); err != nil {
		return nil, err
	}
	var c Callback
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("webtrigger: decode the callback: %w", err)
	}
	if c.RunKey == "" || c.Status == "" {
		return nil, errors.New("webtrigger: the body is not that of a callback")
	}
	return &c, nil
}
