package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/signature"
)

// Channel is the settings of the Web Trigger channel of one assistant. The zero value
// is disabled.
type Channel struct {
	AssistantID       string
	Enabled           bool // if false, new triggers are rejected; existing runs continue
	AllowCallbackURLs bool // checked when a trigger is created; disabling it does not cancel pending callbacks
}

// ChannelStore stores the channel settings and the signing secrets of each assistant.
// The two are separate: SetChannel must not change secrets, and SetSigningSecrets
// must not change settings.
type ChannelStore interface {
	// Channel returns the settings of the assistant. If none are stored, it returns
	// the zero settings with the assistant's id and no error.
	Channel(ctx context.Context, assistantID string) (Channel, error)

	// SetChannel stores the settings. They apply from the next trigger on.
	SetChannel(ctx context.Context, settings Channel) error

	// SigningSecrets returns the assistant's own signing secrets in the order in
	// which they were set. If none are stored, it returns an empty list and no error.
	SigningSecrets(ctx context.Context, assistantID string) (SigningSecretSet, error)

	// SetSigningSecrets replaces the assistant's own signing secrets. An empty list
	// removes them. A store must store the text of SigningSecret.Reveal and must not
	// log it.
	SetSigningSecrets(ctx context.Context, assistantID string, secrets []SigningSecret) error

	// Assistants lists the ids that have settings, keys, or signing secrets (also if
	// these were removed later). The ids are in ascending byte order and follow
	// after; "" starts at the first.
	Assistants(ctx context.Context, after string, limit int) ([]string, error)
}

// Channel returns the settings of an assistant. If none were set, the channel is
// disabled. It returns ErrNotFound if the assistant id is invalid.
func (s *Service) Channel(ctx context.Context, assistantID string) (Channel, error) {
	if !ValidAssistantID(assistantID) {
		return Channel{}, ErrNotFound
	}
	return s.store.Channel(ctx, assistantID)
}

// SetChannel stores the settings of an assistant. They apply from the next trigger
// on. It returns a [RequestError] if the assistant id is invalid.
func (s *Service) SetChannel(ctx context.Context, settings Channel) error {
	if !ValidAssistantID(settings.AssistantID) {
		return &RequestError{Faults: []Fault{{"/assistant_id", assistantIDRule}}}
	}
	ctx = audited(ctx, "channel.set", "channel/"+settings.AssistantID,
		map[string]any{"enabled": settings.Enabled, "allow_callback_urls": settings.AllowCallbackURLs})
	if err := s.store.SetChannel(ctx, settings); err != nil {
		return fmt.Errorf("set channel: %w", err)
	}
	s.log.InfoContext(ctx, "channel set", "assistant_id", settings.AssistantID,
		"enabled", settings.Enabled, "allow_callback_urls", settings.AllowCallbackURLs)
	return nil
}

// Assistants lists the ids that have channel settings, signing secrets or API keys,
// in ascending order, after the given id; "" starts at the first. If limit is zero,
// it is DefaultPageSize. Maximum: MaxPageSize. Other assistants of the host are not
// listed.
func (s *Service) Assistants(ctx context.Context, after string, limit int) ([]string, error) {
	return s.store.Assistants(ctx, after, Page{Limit: limit}.withDefaults().Limit)
}

const assistantIDRule = "must be 1 to 128 characters out of A-Z a-z 0-9 - . _ ~"

// ValidAssistantID reports whether id can identify an assistant. It must have 1 to
// 128 unreserved characters of RFC 3986 §2.3 (A-Z a-z 0-9 - . _ ~) and must not be
// "." or "..". Such an id needs no escaping in a path. A [Store] and an [Authorizer]
// receive only valid ids.
func ValidAssistantID(id string) bool {
	if len(id) < 1 || len(id) > 128 || id == "." || id == ".." {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			c == '-', c == '.', c == '_', c == '~':
		default:
			return false
		}
	}
	return true
}

// DefaultPageSize is the maximum number of items in a list whose limit is 0.
const DefaultPageSize = 50

// MaxPageSize is the maximum number of items in a list.
const MaxPageSize = 200

func (p Page) withDefaults() Page {
	if p.Limit <= 0 {
		p.Limit = DefaultPageSize
	}
	p.Limit = min(p.Limit, MaxPageSize)
	return p
}

// SigningSecret signs callbacks by the symmetric scheme of Standard Webhooks
// (https://www.standardwebhooks.com). Receivers verify with the same secret. The zero
// value is not a secret.
//
// Printing, logging or marshaling a SigningSecret yields "whsec_(hidden)". Only
// [SigningSecret.Reveal] returns the plaintext.
type SigningSecret struct {
	// Behind two pointers, since fmt prints the fields of structs that it cannot
	// ask, and with a verb that does not fit even follows the first.
	key **[]byte
}

const hiddenSecret = "whsec_(hidden)"

// MaxSigningSecrets is the maximum number of secrets that sign one callback. Two are
// in use while receivers change to a new secret.
const MaxSigningSecrets = 2

// SigningSecretSet is the secrets of an assistant.
type SigningSecretSet struct {
	Secrets []SigningSecret // in the order in which they were set
	SetAt   time.Time       // when they were set or removed; zero if never, or before version 0.1.0
}

// NewSigningSecret creates a secret from 32 random bytes.
func NewSigningSecret() SigningSecret {
	return seal(signature.NewKey())
}

// ParseSigningSecret parses a secret in the format of [SigningSecret.Reveal]:
// "whsec_" and the base64 (RFC 4648 §4, padded) of 24 to 64 bytes. The error contains
// no part of the text.
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

// Reveal returns the plaintext of the secret, for a store or the setup of a receiver.
// It returns "" for the zero value.
func (s SigningSecret) Reveal() string {
	if s.IsZero() {
		return ""
	}
	return signature.FormatSecret(**s.key)
}

// IsZero reports whether s is the zero value, which is not a secret.
func (s SigningSecret) IsZero() bool { return s.key == nil }

// sign returns one signature of a message.
func (s SigningSecret) sign(id string, unix int64, body []byte) string {
	return signature.Sign(**s.key, id, unix, body)
}

// String returns "whsec_(hidden)", or "" for the zero value.
func (s SigningSecret) String() string {
	if s.IsZero() {
		return ""
	}
	return hiddenSecret
}

// Format writes the result of String for every verb.
func (s SigningSecret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// GoString returns the result of String.
func (s SigningSecret) GoString() string { return s.String() }

// MarshalText returns the result of String, also for JSON. It cannot be parsed back.
func (s SigningSecret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns the result of String.
func (s SigningSecret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// SetSigningSecrets stores the secrets that sign the callbacks of an assistant, in
// place of [CallbackOptions.Secrets]. Set one secret, or two while receivers change
// to a new one. Without secrets, [CallbackOptions.Secrets] apply again. The change
// applies to every later attempt, including those of callbacks that are already
// pending. It returns a [RequestError] if an argument is invalid.
//
// Secrets are separate from [Channel], so code that lists, changes or logs settings
// does not receive them. A store keeps them as plaintext: protect its database
// accordingly.
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
	ctx = audited(ctx, "signing_secrets.set", "signing_secrets/"+assistantID, map[string]any{"secrets": len(secrets)})
	if err := s.store.SetSigningSecrets(ctx, assistantID, secrets); err != nil {
		return fmt.Errorf("set signing secrets: %w", err)
	}
	s.log.InfoContext(ctx, "signing secrets set", "assistant_id", assistantID, "secrets", len(secrets))
	return nil
}

// SigningSecrets returns the secrets of an assistant in the order in which they were
// set. It returns none if [CallbackOptions.Secrets] apply, and ErrNotFound if the
// assistant id is invalid.
func (s *Service) SigningSecrets(ctx context.Context, assistantID string) (SigningSecretSet, error) {
	if !ValidAssistantID(assistantID) {
		return SigningSecretSet{}, ErrNotFound
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

// Retention sets how long ended runs and the entries of the audit log are kept. Runs are
// counted from their end. If an age is zero, they are kept forever. An age must not be
// negative. Work purges at least every 10 min.
type Retention struct {
	// Events is the age at which a run's events are purged. A reader of purged events
	// gets a 410 problem or a gap frame. Status, result and messages are kept.
	Events time.Duration

	// Completed, Failed, Cancelled and TimedOut are the ages at which a whole trigger
	// is purged, by the final status of its run. A trigger with several runs is
	// purged when each of them is past its age. Of a conversation with a key, each run
	// is purged by itself, and the key is free when the last one is. Requests for a
	// purged trigger return 404.
	Completed, Failed, Cancelled, TimedOut time.Duration

	// Audit is the age at which entries of the audit log are purged. It counts from the
	// time of the entry.
	Audit time.Duration
}

func (r Retention) check() error {
	if min(r.Events, r.Completed, r.Failed, r.Cancelled, r.TimedOut, r.Audit) < 0 {
		return errors.New("Retention ages must not be negative")
	}
	return nil
}

// RetentionStore deletes the data of ended runs. Deleted data no longer exists for
// any method, and its ids are never reused.
type RetentionStore interface {
	// Purge checks the next runs, ordered by id, and deletes the data that is past
	// its retention age. The age counts from the end of the run. A sequence of calls
	// checks each run once. If a run cannot be purged, Purge continues with the others
	// and returns an error with its result. The pass then continues at Next too.
	//
	// If a run is older than purge.Keep.Events, Purge deletes its events and keeps
	// the rest. EventPage.PurgedTo reports this to readers. Purge deletes a whole
	// trigger once each of its runs is older than the age of its status and none of
	// its deliveries is pending or sending. That includes its runs, messages, events,
	// deliveries and idempotency records. Of a conversation with a key, each run is a
	// trigger of its own. The last one takes the conversation with it, and the key is
	// free.
	//
	// Each call also deletes up to purge.Limit entries of the audit log that are older
	// than purge.Keep.Audit, and the statistics of up to purge.Limit hours that ended more
	// than purge.Stats ago. If no other age is set, it checks no runs. A store that keeps
	// the counts of past hours counts them before it deletes their runs.
	Purge(ctx context.Context, purge Purge) (Purged, error)

	// RecordPass stores that a pass of purges has ended now, by the store's clock, and what
	// it deleted. If it deleted nothing, the report of the last pass that did stays.
	RecordPass(ctx context.Context, deleted Purged) error

	// DataState returns what the store contains and what was purged last. Numbers above
	// ExactCount may be estimates, so that a call is cheap.
	DataState(ctx context.Context) (DataState, error)

	// EraseTrigger deletes a whole trigger, regardless of its age, including pending
	// and sending deliveries. If one of its runs has not ended, it returns
	// ErrConflict.
	EraseTrigger(ctx context.Context, conversationID int64) error
}

// Purge configures one call of RetentionStore.Purge.
type Purge struct {
	Keep  Retention
	Stats time.Duration // age of kept statistics; 0 for no limit
	After int64         // only runs with a higher id; 0 starts a pass
	Limit int           // maximum number of runs whose events are deleted, and of triggers
}

// Purged is the result of one Purge call.
type Purged struct {
	Events       int   // runs whose events were deleted and that are kept
	Triggers     int   // triggers that were deleted
	AuditEntries int   // entries of the audit log that were deleted
	StatsHours   int   // hours whose kept statistics were deleted
	Next         int64 // After of the next call; 0 if the pass is complete
}

// add adds what another call deleted.
func (p *Purged) add(more Purged) {
	p.Events += more.Events
	p.Triggers += more.Triggers
	p.AuditEntries += more.AuditEntries
	p.StatsHours += more.StatsHours
}

// DataState is what a store contains, and what was purged last.
type DataState struct {
	Runs, Deliveries, AuditEntries StoredCount

	OldestRun time.Time // creation time of the oldest run; zero if there are no runs
	Bytes     int64     // size of the stored data with its indexes; 0 if the store cannot read it cheaply

	// The purges of all processes. PassedAt is the end of the last complete pass. Deleted
	// is what the last pass that deleted data did, which ended at DeletedAt. The times are
	// zero if there was none.
	PassedAt, DeletedAt time.Time
	Deleted             Purged
}

// StoredCount is a number of stored items.
type StoredCount struct {
	Count     int64
	Estimated bool // Count is an estimate: there are at least [ExactCount]
}

// ExactCount is the number of items that a store counts exactly.
const ExactCount = 10_000

// Retention returns how long ended runs and the entries of the audit log are kept.
func (s *Service) Retention() Retention { return s.opts.Retention }

// DataState returns what the store contains and what was purged last.
func (s *Service) DataState(ctx context.Context) (DataState, error) {
	return s.store.DataState(ctx)
}

// EraseTrigger permanently deletes a trigger, regardless of its age: the conversation
// with its runs, messages, events, deliveries and idempotency records. A pending
// callback is not sent. If a run has not ended, it returns ErrConflict. Cancel the
// run first. It returns ErrNotFound if the trigger does not exist.
func (s *Service) EraseTrigger(ctx context.Context, triggerID int64) error {
	if err := s.store.EraseTrigger(audited(ctx, "conversation.erase", objectOf("conversation", triggerID), nil), triggerID); err != nil {
		return fmt.Errorf("erase trigger: %w", err)
	}
	s.log.InfoContext(ctx, "trigger erased", "trigger_id", triggerID)
	return nil
}

const (
	purgeInterval = 10 * time.Minute       // between two passes, at most
	purgeRetry    = time.Second            // after the first error; each further error doubles it
	purgePause    = 100 * time.Millisecond // between two calls of a pass; purging is not urgent
	purgeBatch    = 500
)

// purgeLoop purges expired data. Every process runs it; processes do not coordinate.
// Statistics expire also if nothing else does.
func (s *Service) purgeLoop(life context.Context) {
	wait := time.NewTimer(rand.N(purgeInterval / 10)) // processes that start together do not purge together
	defer wait.Stop()
	var after int64
	var pass Purged
	retry := purgeRetry
	for {
		select {
		case <-life.Done():
			return
		case <-wait.C:
		}
		var err error
		after, err = s.purge(life, after, &pass)
		switch {
		case after == 0:
			if err == nil {
				s.recordPass(life, pass)
			}
			pass = Purged{}
			wait.Reset(sweepPause(purgeInterval))
		case err != nil:
			wait.Reset(sweepPause(retry))
			retry = min(2*retry, purgeInterval)
			continue
		default:
			wait.Reset(purgePause)
		}
		retry = purgeRetry
	}
}

// purge makes one call of a pass and adds to it what was deleted. It returns the position
// at which the pass continues, also after an error, or 0 if the pass is complete.
func (s *Service) purge(life context.Context, after int64, pass *Purged) (next int64, _ error) {
	ctx, cancel := context.WithTimeout(life, statementTimeout)
	defer cancel()
	purged, err := s.store.Purge(ctx, Purge{Keep: s.opts.Retention, Stats: StatsAge, After: after, Limit: purgeBatch})
	if errors.Is(err, errors.ErrUnsupported) && s.opts.Retention == (Retention{}) {
		return 0, err
	}
	if err != nil {
		if life.Err() == nil {
			s.log.Warn("purge failed", "error", err)
		}
	}
	if purged.Events+purged.Triggers > 0 {
		s.log.Info("purge completed", "triggers", purged.Triggers, "runs_without_events", purged.Events)
	}
	pass.add(purged)
	return purged.Next, err
}

// recordPass stores the report of a complete pass, for people. A store without the method
// keeps none.
func (s *Service) recordPass(life context.Context, pass Purged) {
	ctx, cancel := context.WithTimeout(life, statementTimeout)
	defer cancel()
	if err := s.store.RecordPass(ctx, pass); err != nil && life.Err() == nil && !errors.Is(err, errors.ErrUnsupported) {
		s.log.Warn("purge report failed", "error", err)
	}
}
