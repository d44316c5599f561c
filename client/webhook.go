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
	// ErrSignature reports that no secret of the [Verifier] has signed a callback: a
	// header is missing, repeated or malformed, or no signature matches id, time and
	// body. Respond with 401 and do nothing else.
	ErrSignature = errors.New("webtrigger: callback signature is not valid")

	// ErrStale reports that a callback has a valid signature with a time outside the
	// tolerance: a replay, or clocks that differ.
	ErrStale = errors.New("webtrigger: callback timestamp outside the tolerance")
)

// DefaultTolerance is the default of [VerifierOptions.Tolerance].
const DefaultTolerance = 5 * time.Minute

// MaxCallback is the maximum size of the body that [Verifier.Receive] reads, in
// bytes. A result of 1 MiB with every byte escaped fits.
const MaxCallback = 8 << 20

// Verifier verifies the signatures of callbacks, by the symmetric scheme of Standard
// Webhooks (https://www.standardwebhooks.com). It is safe for concurrent use.
type Verifier struct {
	keys      [][]byte
	tolerance time.Duration
}

// VerifierOptions configures a Verifier.
type VerifierOptions struct {
	// Tolerance is the maximum difference between the time of a signature and now. If
	// zero, it is DefaultTolerance. It must not be negative.
	Tolerance time.Duration
}

// NewVerifier returns a Verifier for the secrets that may sign a callback: one, or
// the old and the new one during a rotation. A secret is "whsec_" and the base64 of
// 24 to 64 bytes. If opts is nil, the defaults apply. It returns an error if there is no
// secret, or if a secret or the tolerance is invalid.
func NewVerifier(secrets []string, opts *VerifierOptions) (*Verifier, error) {
	v := &Verifier{tolerance: DefaultTolerance}
	if opts != nil && opts.Tolerance != 0 {
		v.tolerance = opts.Tolerance
	}
	if v.tolerance < 0 {
		return nil, errors.New("webtrigger: Tolerance must not be negative")
	}
	if len(secrets) == 0 {
		return nil, errors.New("webtrigger: verifier needs a secret")
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

// Verify verifies a callback by the headers webhook-id, webhook-timestamp and
// webhook-signature and the exact bytes of the body. A body that was parsed and
// encoded again does not verify. It returns ErrSignature or ErrStale, or an error
// that wraps one of them.
func (v *Verifier) Verify(header http.Header, body []byte) error {
	var values [3]string
	for i, name := range []string{signature.HeaderID, signature.HeaderTimestamp, signature.HeaderSignature} {
		got := header.Values(name)
		if len(got) != 1 || got[0] == "" {
			return fmt.Errorf("%w: request must have one %s", ErrSignature, name)
		}
		values[i] = got[0]
	}
	id, stamp, signatures := values[0], values[1], values[2]
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || strconv.FormatInt(unix, 10) != stamp {
		return fmt.Errorf("%w: %s is not a Unix timestamp", ErrSignature, signature.HeaderTimestamp)
	}
	// Every key is tried, so that the duration does not depend on the key that matches.
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

// Callback is the body of a callback. A nil pointer is a null of the body.
type Callback struct {
	// RunKey identifies the run. It is the same in every attempt and redelivery: act
	// on it once.
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

// Receive reads, verifies and decodes the body of a callback. A receiver's handler
// calls it first. On ErrSignature and ErrStale, respond with 401. On any other error
// the body could not be read or is not a callback: respond with 400. Respond with
// 2xx only after you have stored the callback, because the service does not send a
// delivered callback again.
func (v *Verifier) Receive(w http.ResponseWriter, r *http.Request) (*Callback, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxCallback))
	if err != nil {
		return nil, fmt.Errorf("webtrigger: read callback: %w", err)
	}
	if err := v.Verify(r.Header, body); err != nil {
		return nil, err
	}
	var c Callback
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("webtrigger: decode callback: %w", err)
	}
	if c.RunKey == "" || c.Status == "" {
		return nil, errors.New("webtrigger: body is not a callback")
	}
	return &c, nil
}
