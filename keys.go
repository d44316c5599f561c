package webtrigger

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Key is an API key. It allows a caller to trigger one assistant and to read its
// triggers, within its scopes. Key does not contain the plaintext, which is not stored.
type Key struct {
	ID          int64
	AssistantID string
	Name        string
	Prefix      string // the first 8 characters of the plaintext, to identify the key
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero if the key does not expire
	RevokedAt   time.Time // zero if the key is not revoked
	LastUsedAt  time.Time // at most 1 min before the last use; zero if the key was never used
	Scopes      []Scope   // what the key allows, in the order of AllScopes
}

// May reports whether the key has a scope.
func (k *Key) May(scope Scope) bool { return slices.Contains(k.Scopes, scope) }

// Scope is a part of what an API key may allow.
type Scope string

// Scopes of API keys.
const (
	ScopeTrigger Scope = "trigger" // create triggers
	ScopeRead    Scope = "read"    // read status, results and events
	ScopeCancel  Scope = "cancel"  // cancel runs
	ScopeInput   Scope = "input"   // answer runs that wait for input
)

// AllScopes returns all scopes.
func AllScopes() []Scope { return []Scope{ScopeTrigger, ScopeRead, ScopeCancel, ScopeInput} }

// DefaultScopes returns the scopes of a key that was created without any.
func DefaultScopes() []Scope { return []Scope{ScopeTrigger, ScopeRead, ScopeCancel} }

// checkScopes validates the scopes of a new key and returns them in the order of
// AllScopes.
func checkScopes(given []Scope, f *faults) (scopes []Scope) {
	if given == nil {
		return DefaultScopes()
	}
	for i, scope := range given {
		if !slices.Contains(AllScopes(), scope) {
			f.add("/scopes/"+strconv.Itoa(i), "must be one of trigger, read, cancel, input")
		}
	}
	if len(given) == 0 {
		f.add("/scopes", "must have at least one entry")
	}
	for _, scope := range AllScopes() {
		if slices.Contains(given, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// missingScope is the 403 of a key that lacks a scope.
func missingScope(scope Scope) *wire.Problem {
	return &wire.Problem{Status: http.StatusForbidden, Code: "missing_scope",
		Detail: "This API key lacks the scope " + string(scope) + ". Use a key that has it."}
}

// KeySpec describes an API key to be created.
type KeySpec struct {
	// Name is shown to operators, and in the default subject of a conversation.
	// It has 1 to 100 characters and must not be blank.
	Name string

	// ExpiresAt is when the key expires. It must lie in the future, and before the
	// year 10000 in UTC. If zero, the key does not expire.
	ExpiresAt time.Time

	// Scopes are what the key allows. If nil, they are trigger, read and cancel. A key
	// needs at least one.
	Scopes []Scope
}

// KeyQuery selects API keys, newest first. A zero field does not limit the selection.
type KeyQuery struct {
	AssistantID string
	Prefix      string // keys whose prefix begins with it
	Active      *bool  // true: neither revoked nor expired by the store's clock; false: the others
	Page        Page
}

// KeyHash is the SHA-256 of the 64 characters of a plaintext.
type KeyHash [sha256.Size]byte

const (
	keyBytes        = 32
	keyLength       = 2 * keyBytes
	keyPrefix       = 8
	maxKeyNameRunes = 100
	keyNameRule     = "must be 1 to 100 characters and not blank"
	keyExpiryRule   = "must lie in the future"
	keyExpiryEnd    = "must lie before the year 10000 in UTC"
	lastYear        = 9999 // RFC 3339 has four digits
)

// CreateKey creates an API key of an assistant and returns it with its
// plaintext: 64 lowercase hex characters from 32 random bytes. The plaintext
// cannot be read again. It returns a [RequestError] if the assistant id or spec
// is invalid.
func (s *Service) CreateKey(ctx context.Context, assistantID string, spec KeySpec) (Key, string, error) {
	plaintext := newPlaintext()
	key, err := s.ImportKey(ctx, assistantID, spec, plaintext)
	if err != nil {
		return Key{}, "", err
	}
	return key, plaintext, nil
}

func newPlaintext() string {
	var raw [keyBytes]byte
	_, _ = rand.Read(raw[:]) // never fails: the program crashes first
	return hex.EncodeToString(raw[:])
}

// ImportKey creates an API key with a given plaintext, such as one from the
// secret manager of a deployment. The plaintext must be 64 lowercase hex
// characters. It returns a [RequestError] if an argument is invalid, and
// ErrConflict if the plaintext is already in use.
func (s *Service) ImportKey(ctx context.Context, assistantID string, spec KeySpec, plaintext string) (Key, error) {
	var f faults
	if !ValidAssistantID(assistantID) {
		f.add("/assistant_id", assistantIDRule)
	}
	if n := utf8.RuneCountInString(spec.Name); n > maxKeyNameRunes || blank(spec.Name) || !wire.CleanText(spec.Name) {
		f.add("/name", keyNameRule)
	}
	if !spec.ExpiresAt.IsZero() && !spec.ExpiresAt.After(time.Now()) {
		f.add("/expires_at", keyExpiryRule)
	}
	if spec.ExpiresAt.UTC().Year() > lastYear {
		f.add("/expires_at", keyExpiryEnd)
	}
	scopes := checkScopes(spec.Scopes, &f)
	hash, ok := hashKey(plaintext)
	if !ok {
		f.add("/key", "must be 64 lowercase hex characters")
	}
	if err := f.err(); err != nil {
		return Key{}, err
	}
	ctx = audited(ctx, "key.create", "key/", auditedKey{assistantID, spec.Name, plaintext[:keyPrefix], wire.NullableTime(spec.ExpiresAt), scopes, nil})
	key, err := s.store.CreateKey(ctx, NewKey{
		AssistantID: assistantID, Name: spec.Name, Prefix: plaintext[:keyPrefix], Hash: hash, ExpiresAt: storedTime(spec.ExpiresAt),
		Scopes: scopes,
	})
	if err != nil {
		return Key{}, fmt.Errorf("create key: %w", err)
	}
	s.log.InfoContext(ctx, "key created", "assistant_id", assistantID, "key_id", key.ID, "key_prefix", key.Prefix)
	return key, nil
}

// auditedKey is what the audit log has about a new key.
type auditedKey struct {
	AssistantID string  `json:"assistant_id"`
	Name        string  `json:"name"`
	Prefix      string  `json:"prefix"`
	ExpiresAt   *string `json:"expires_at"`
	Scopes      []Scope `json:"scopes"`
	Grace       *int64  `json:"grace_period,omitempty"` // of a rotation, in seconds
}

// Key returns one API key, including a revoked or expired one. It returns ErrNotFound
// if the key does not exist.
func (s *Service) Key(ctx context.Context, keyID int64) (Key, error) {
	return s.store.Key(ctx, keyID)
}

// Keys lists the API keys that match query, newest first. If query has an invalid
// assistant id, the list is empty.
func (s *Service) Keys(ctx context.Context, query KeyQuery) ([]Key, error) {
	if query.AssistantID != "" && !ValidAssistantID(query.AssistantID) {
		return nil, nil
	}
	query.Page = query.Page.withDefaults()
	return s.store.Keys(ctx, query)
}

// RevokeKey revokes an API key. Every process rejects the next request with it. If
// the key is already revoked, RevokeKey returns no error and does not change the
// revocation time. It returns ErrNotFound if the key does not exist.
func (s *Service) RevokeKey(ctx context.Context, keyID int64) (Key, error) {
	key, err := s.store.RevokeKey(audited(ctx, "key.revoke", objectOf("key", keyID), nil), keyID)
	if err != nil {
		return Key{}, fmt.Errorf("revoke key: %w", err)
	}
	s.log.InfoContext(ctx, "key revoked", "assistant_id", key.AssistantID, "key_id", key.ID, "key_prefix", key.Prefix)
	return key, nil
}

// RotateKey replaces an API key by a new one and returns the new key with its
// plaintext, which cannot be read again. The new key has the assistant, the
// name and the scopes of the old one. If the old key expires, the new one has the same lifetime
// from now on. The old key stays valid for grace, but not beyond its own expiry;
// if grace is zero, it expires immediately. Both keys read the same triggers and
// share idempotency keys.
//
// It returns ErrConflict if the old key is revoked or expired, and a
// [RequestError] if grace is negative.
func (s *Service) RotateKey(ctx context.Context, keyID int64, grace time.Duration) (Key, string, error) {
	if grace < 0 {
		return Key{}, "", &RequestError{Faults: []Fault{{"/grace", "must not be negative"}}}
	}
	old, err := s.store.Key(ctx, keyID)
	if err != nil {
		return Key{}, "", fmt.Errorf("rotate key: %w", err)
	}
	plaintext := newPlaintext()
	hash, _ := hashKey(plaintext)
	next := NewKey{AssistantID: old.AssistantID, Name: old.Name, Prefix: plaintext[:keyPrefix], Hash: hash, Scopes: old.Scopes}
	if !old.ExpiresAt.IsZero() {
		next.ExpiresAt = storedTime(time.Now().Add(old.ExpiresAt.Sub(old.CreatedAt)))
	}
	seconds := int64(grace.Seconds())
	ctx = audited(ctx, "key.rotate", objectOf("key", keyID), auditedKey{next.AssistantID, next.Name, next.Prefix, wire.NullableTime(next.ExpiresAt), next.Scopes, &seconds})
	key, err := s.store.ReplaceKey(ctx, keyID, next, grace)
	if err != nil {
		return Key{}, "", fmt.Errorf("rotate key: %w", err)
	}
	s.log.InfoContext(ctx, "key rotated", "assistant_id", key.AssistantID, "key_id", key.ID, "key_prefix", key.Prefix,
		"old_key_id", old.ID, "grace", grace)
	return key, plaintext, nil
}

// bearerKey reads the API key from Authorization headers (RFC 6750 §2.1). sent
// reports whether there was a bearer credential. ok reports whether it has the form
// of a plaintext.
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

// hashKey returns the hash of a well-formed plaintext.
func hashKey(plaintext string) (KeyHash, bool) {
	if len(plaintext) != keyLength {
		return KeyHash{}, false
	}
	for i := range len(plaintext) {
		if c := plaintext[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return KeyHash{}, false
		}
	}
	return sha256.Sum256([]byte(plaintext)), true
}

// Grant is what a valid API key gives access to: the key, its assistant's settings
// and the requested run.
type Grant struct {
	Key           Key
	Channel       Channel
	Run           *Run // without TaskDefinition
	ResultOmitted bool // the result is larger than MaxGrantResultBytes, and Run is without it
}

// MaxGrantResultBytes is the maximum size of the result of [Grant.Run].
const MaxGrantResultBytes = 8 << 10

// keyUsePrecision is the maximum difference between Key.LastUsedAt and the last use.
const keyUsePrecision = time.Minute

// keyUses records which keys this process has stamped recently, so that a key costs
// one write per minute, regardless of its use. Entries are dropped as a whole
// generation, so no request pays for the keys of others.
type keyUses struct {
	mu             sync.Mutex
	stamped, older map[int64]time.Time // by key; older is the previous generation
	begun          time.Time           // start of the generation in stamped
}

// due reports whether the key must be stamped, and if so counts it as stamped.
func (u *keyUses) due(keyID int64, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stamped == nil || now.Sub(u.begun) >= keyUsePrecision {
		u.stamped, u.older, u.begun = make(map[int64]time.Time), u.stamped, now
	}
	at, ok := u.stamped[keyID]
	if !ok {
		at, ok = u.older[keyID]
	}
	if ok && now.Sub(at) < keyUsePrecision {
		return false
	}
	u.stamped[keyID] = now
	return true
}

// used stamps the key of a request. One request per minute waits for it. A failure
// does not fail the request.
func (s *Service) used(ctx context.Context, keyID int64) {
	if !s.keyUses.due(keyID, time.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.store.TouchKey(ctx, keyID, keyUsePrecision); err != nil {
		s.log.WarnContext(ctx, "last_used_at update failed", "key_id", keyID, "error", err)
	}
}

// Limits sets limits for triggers and runs. If zero, there are no limits. A request over
// a limit of the trigger endpoint is rejected with 429 and Retry-After. The rate is
// checked before the body is validated, the queue after it. An idempotent replay is
// never rejected. A request that is rejected for another reason does not count toward
// the rate, unless the host name of its callback URL was resolved.
type Limits struct {
	// TriggersPerKey is the maximum number of triggers per API key and Window. It is
	// the size of a token bucket that refills at a constant rate, so an idle key may
	// use all tokens at once. Each process counts separately: n processes allow n
	// times as many. Triggers without an API key (Go calls, ServeTrigger) do not
	// count. If zero, there is no limit. It must not be negative.
	TriggersPerKey int

	// Window is the time in which TriggersPerKey tokens refill. If zero, it is 1 min.
	// It must be a whole number of seconds. Minimum: 1 s.
	Window time.Duration

	// QueuedPerAssistant is the maximum number of queued runs of an assistant, over
	// all processes and all callers. [Service.Trigger] and [Service.TriggerVia] also
	// return [ErrQueueFull]. A run that is claimed immediately does not count, and
	// neither does a run that was created while this limit was 0. If zero, there is
	// no limit. It must not be negative.
	QueuedPerAssistant int

	// RunningPerAssistant is the maximum number of running runs of an assistant, over
	// all processes. Other runs of the assistant stay queued. All processes should have
	// the same limit: each applies its own to what it claims. With a limit, a run is
	// always queued first, and then claimed. [Service.Execute] returns ErrConflict for a
	// run over the limit. If zero, there is no limit. It must not be negative.
	RunningPerAssistant int

	// RunningPerKey is the same limit for the runs that one API key created. Triggers
	// without an API key do not count. If zero, there is no limit. It must not be
	// negative.
	RunningPerKey int
}

// limitsRunning reports whether there is a limit of running runs.
func (l *Limits) limitsRunning() bool { return l.RunningPerAssistant > 0 || l.RunningPerKey > 0 }

// complete checks l and sets the defaults of zero fields.
func (l *Limits) complete() error {
	if l.TriggersPerKey < 0 || l.QueuedPerAssistant < 0 || l.RunningPerAssistant < 0 || l.RunningPerKey < 0 {
		return errors.New("TriggersPerKey, QueuedPerAssistant, RunningPerAssistant and RunningPerKey must not be negative")
	}
	if l.Window == 0 {
		l.Window = time.Minute
	}
	if l.Window < time.Second || l.Window%time.Second != 0 {
		return errors.New("value of Window must be a whole number of seconds, at least 1s")
	}
	return nil
}

// queueRetry is the Retry-After of a queue_full response. It is an estimate; the
// actual wait depends on the queued runs.
const queueRetry = 5 * time.Second

func queueFull(limit int) *wire.Problem {
	return &wire.Problem{Status: http.StatusTooManyRequests, Code: "queue_full",
		Detail: "This assistant has reached its limit of queued runs. Try again after the delay in Retry-After.", RetryAfter: queueRetry,
		Quota: &wire.Quota{Policy: "queue", Limit: limit, Unit: "concurrent-requests", Reset: queueRetry}}
}

func conversationFull() *wire.Problem {
	return &wire.Problem{Status: http.StatusTooManyRequests, Code: "queue_full",
		Detail:     "This conversation has reached its limit of unfinished runs. Try again after the delay in Retry-After.",
		RetryAfter: queueRetry,
		Quota:      &wire.Quota{Policy: "conversation", Limit: MaxUnfinishedRuns, Unit: "concurrent-requests", Reset: queueRetry}}
}

func rateLimited(q wire.Quota) *wire.Problem {
	return &wire.Problem{Status: http.StatusTooManyRequests, Code: "rate_limited",
		Detail: "This API key has exceeded its rate limit. Try again after the delay in Retry-After.", RetryAfter: q.Reset, Quota: &q}
}
