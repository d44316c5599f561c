package webtrigger

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// APIKey is a secret that may trigger and read one assistant's triggers, as
// far as it can be shown: the secret itself is stored nowhere.
type APIKey struct {
	ID          int64
	AssistantID string
	Name        string
	Prefix      string // the first 8 characters of the secret, to tell keys apart
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero: never
	RevokedAt   time.Time // zero: not revoked
	LastUsedAt  time.Time // up to a minute behind the last use; zero: never used
}

// KeyHash is the SHA-256 of a key's 64 characters.
type KeyHash [sha256.Size]byte

const (
	keyBytes      = 32
	keyLength     = 2 * keyBytes
	keyPrefix     = 8
	maxKeyName    = 100
	keyNameRule   = "must be 1 to 100 characters and not blank"
	keyExpiryRule = "must lie in the future"
)

// CreateKey makes an API key for an assistant and returns it with its secret:
// 64 lowercase hex characters from 32 random bytes. The secret is returned this
// once. The name has 1 to 100 characters; a zero expiry means never. A bad name
// or a past expiry is a [RequestError].
func (s *Service) CreateKey(ctx context.Context, assistantID, name string, expiresAt time.Time) (APIKey, string, error) {
	secret := newSecret()
	key, err := s.ImportKey(ctx, assistantID, name, secret, expiresAt)
	if err != nil {
		return APIKey{}, "", err
	}
	return key, secret, nil
}

func newSecret() string {
	var raw [keyBytes]byte
	_, _ = rand.Read(raw[:]) // never fails: the program crashes first
	return hex.EncodeToString(raw[:])
}

// ImportKey stores a key whose secret was made elsewhere, such as in a
// deployment's secret manager. The secret must be 64 lowercase hex characters;
// ErrConflict says that it is in use.
func (s *Service) ImportKey(ctx context.Context, assistantID, name, secret string, expiresAt time.Time) (APIKey, error) {
	var f faults
	if !ValidAssistantID(assistantID) {
		f.add("/assistant_id", assistantIDRule)
	}
	if n := utf8.RuneCountInString(name); n > maxKeyName || blank(name) || !wire.CleanText(name) {
		f.add("/name", keyNameRule)
	}
	if !expiresAt.IsZero() && !expiresAt.After(time.Now()) {
		f.add("/expires_at", keyExpiryRule)
	}
	hash, ok := hashKey(secret)
	if !ok {
		f.add("/key", "must be 64 lowercase hex characters")
	}
	if err := f.err(); err != nil {
		return APIKey{}, err
	}
	key, err := s.store.CreateKey(ctx, NewKey{
		AssistantID: assistantID, Name: name, Prefix: secret[:keyPrefix], Hash: hash, ExpiresAt: storedTime(expiresAt),
	})
	if err != nil {
		return APIKey{}, fmt.Errorf("create key: %w", err)
	}
	s.log.InfoContext(ctx, "key created", "assistant_id", assistantID, "key_id", key.ID, "key_prefix", key.Prefix)
	return key, nil
}

// Key returns one key.
func (s *Service) Key(ctx context.Context, keyID int64) (APIKey, error) {
	return s.store.Key(ctx, keyID)
}

// Keys lists the keys of an assistant, newest first.
func (s *Service) Keys(ctx context.Context, assistantID string, page Page) ([]APIKey, error) {
	return s.store.Keys(ctx, assistantID, page.withDefaults())
}

// RevokeKey revokes a key: the next request with it is refused, in every
// process. Revoking twice is no error and keeps the first time.
func (s *Service) RevokeKey(ctx context.Context, keyID int64) (APIKey, error) {
	key, err := s.store.RevokeKey(ctx, keyID)
	if err != nil {
		return APIKey{}, fmt.Errorf("revoke key: %w", err)
	}
	s.log.InfoContext(ctx, "key revoked", "assistant_id", key.AssistantID, "key_id", key.ID, "key_prefix", key.Prefix)
	return key, nil
}

// RotateKey makes a new key in the place of an old one and returns it with its
// secret, this once. It has the assistant and the name of the old key and, where
// that expires, as long a life from now on. The old key goes on for grace, or
// until its own expiry if that is sooner; 0 ends it at once. ErrConflict says that
// the old key is revoked or expired. Triggers of the assistant are the same to
// both keys, replays by Idempotency-Key included.
func (s *Service) RotateKey(ctx context.Context, keyID int64, grace time.Duration) (APIKey, string, error) {
	if grace < 0 {
		return APIKey{}, "", &RequestError{Faults: []Fault{{"/grace", "must not be negative"}}}
	}
	old, err := s.store.Key(ctx, keyID)
	if err != nil {
		return APIKey{}, "", fmt.Errorf("rotate key: %w", err)
	}
	secret := newSecret()
	hash, _ := hashKey(secret)
	next := NewKey{AssistantID: old.AssistantID, Name: old.Name, Prefix: secret[:keyPrefix], Hash: hash}
	if !old.ExpiresAt.IsZero() {
		next.ExpiresAt = storedTime(time.Now().Add(old.ExpiresAt.Sub(old.CreatedAt)))
	}
	key, err := s.store.ReplaceKey(ctx, keyID, next, grace)
	if err != nil {
		return APIKey{}, "", fmt.Errorf("rotate key: %w", err)
	}
	s.log.InfoContext(ctx, "key rotated", "assistant_id", key.AssistantID, "key_id", key.ID, "key_prefix", key.Prefix,
		"old_key_id", old.ID, "grace", grace)
	return key, secret, nil
}

// bearerKey reads the key out of Authorization headers (RFC 6750 §2.1). sent
// tells whether a bearer token was there at all, ok whether it has the shape of
// a key.
func bearerKey(headers []string) (hash KeyHash, sent, ok bool) {
	if len(headers) == 0 {
		return hash, false, false
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return hash, false, false
	}
	hash, ok = hashKey(strings.Trim(token, " "))
	return hash, true, ok && len(headers) == 1
}

// hashKey is the hash of a well-formed secret.
func hashKey(secret string) (KeyHash, bool) {
	if len(secret) != keyLength {
		return KeyHash{}, false
	}
	for i := range len(secret) {
		if c := secret[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return KeyHash{}, false
		}
	}
	return sha256.Sum256([]byte(secret)), true
}
