package webtrigger

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/webtrigger-go/webtrigger/internal/signature"
)

// SigningSecret signs callbacks by the symmetric scheme of Standard Webhooks
// (https://www.standardwebhooks.com): receivers hold the same secret and verify
// with it. The zero value is no secret.
//
// It shows itself nowhere: whatever prints, logs or marshals it gets
// "whsec_(hidden)". [SigningSecret.Reveal] is the one way to the text.
type SigningSecret struct {
	// Behind two pointers, since fmt prints the fields of structs that it cannot
	// ask, and with a verb that does not fit even follows the first.
	key **[]byte
}

const hiddenSecret = "whsec_(hidden)"

// MaxSigningSecrets is how many secrets sign one callback at most: two while
// receivers go over from one to the next.
const MaxSigningSecrets = 2

// NewSigningSecret draws a secret of 32 random bytes.
func NewSigningSecret() SigningSecret {
	return seal(signature.NewKey())
}

// ParseSigningSecret reads a secret as Reveal writes it: "whsec_" and the
// base64 (RFC 4648 §4, padded) of 24 to 64 bytes. The error repeats no part of
// the text.
func ParseSigningSecret(text string) (SigningSecret, error) {
	key, err := signature.ParseSecret(text)
	if err != nil {
		return SigningSecret{}, err
	}
	return seal(key), nil
}

func seal(key []byte) SigningSecret {
	p := &key
	return SigningSecret{&p}
}

// Reveal is the secret in clear, for the store and for whoever sets up a
// receiver; "" for the zero value.
func (s SigningSecret) Reveal() string {
	if s.IsZero() {
		return ""
	}
	return signature.FormatSecret(**s.key)
}

// IsZero reports whether s is no secret.
func (s SigningSecret) IsZero() bool { return s.key == nil }

// sign is one signature of a message.
func (s SigningSecret) sign(id string, unix int64, body []byte) string {
	return signature.Sign(**s.key, id, unix, body)
}

// String hides the secret.
func (s SigningSecret) String() string {
	if s.IsZero() {
		return ""
	}
	return hiddenSecret
}

// Format hides the secret under every verb.
func (s SigningSecret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// GoString hides the secret.
func (s SigningSecret) GoString() string { return s.String() }

// MarshalText hides the secret, in JSON too. It cannot be read back.
func (s SigningSecret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the secret.
func (s SigningSecret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// SetSigningSecrets stores the secrets that sign the callbacks of an assistant,
// in place of those of [CallbackOptions.Secrets]: one, or two while receivers
// change over, or none to go back to those. They act on every attempt that
// begins from then on, also of callbacks owed before.
//
// They are kept apart from [Channel], so that whoever lists, changes or
// logs settings never holds them. A store keeps them as they are: they are as
// safe as its database.
func (s *Service) SetSigningSecrets(ctx context.Context, assistantID string, secrets ...SigningSecret) error {
	var f faults
	if !ValidAssistantID(assistantID) {
		f.add("/assistant_id", assistantIDRule)
	}
	if err := checkSecrets(secrets); err != nil {
		f.add("/signing_secrets", err.Error())
	}
	if err := f.err(); err != nil {
		return err
	}
	if err := s.store.SetSigningSecrets(ctx, assistantID, secrets); err != nil {
		return fmt.Errorf("set signing secrets: %w", err)
	}
	s.log.InfoContext(ctx, "signing secrets set", "assistant_id", assistantID, "secrets", len(secrets))
	return nil
}

// SigningSecrets returns the secrets that are set for an assistant, newest
// first as they were set; none where the service's own apply.
func (s *Service) SigningSecrets(ctx context.Context, assistantID string) ([]SigningSecret, error) {
	if !ValidAssistantID(assistantID) {
		return nil, ErrNotFound
	}
	return s.store.SigningSecrets(ctx, assistantID)
}

func checkSecrets(secrets []SigningSecret) error {
	if len(secrets) > MaxSigningSecrets {
		return fmt.Errorf("must have at most %d entries", MaxSigningSecrets)
	}
	for _, secret := range secrets {
		if secret.IsZero() {
			return fmt.Errorf("must not be empty")
		}
	}
	return nil
}
