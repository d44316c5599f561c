package webtrigger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/webtrigger-go/webtrigger/internal/egress"
	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// TriggerRequest is the body of the trigger endpoint and the argument of
// [Service.Trigger].
type TriggerRequest struct {
	Message          string          // 1 to 50,000 characters, not blank
	Subject          string          // at most 255 characters; if blank, a default applies
	Context          json.RawMessage // a JSON object, appended to the prompt; nil for none
	TaskDefinitionID int64           // an active task definition of the assistant; 0 for none
	CallbackURL      string          // receives a POST when the run ends; "" for none
	Metadata         json.RawMessage // any JSON value, stored with the run; nil for none

	// ConversationKey names a conversation of the assistant. The caller chooses it, such
	// as a ticket number. The first trigger with a key starts the conversation, and
	// each later one continues it with a new run. It has 1 to 255 characters without
	// control characters. If empty, the trigger starts a conversation without a key.
	ConversationKey string

	// ConversationID continues a conversation of the same assistant by its id. It
	// excludes ConversationKey. If zero, ConversationKey decides. Requests over HTTP
	// have no such field.
	ConversationID int64

	// OnBusy is what happens while a run of the conversation has not ended. It needs
	// ConversationKey or ConversationID. If empty, it is BusyEnqueue.
	OnBusy OnBusy

	// TraceParent is the W3C traceparent that the run continues; over HTTP, the
	// header traceparent. An invalid value is ignored. If empty, there is none.
	TraceParent string

	// RequestID is the host's id of the request; over HTTP, the header X-Request-Id.
	// The run's log records contain it. It has 1 to 128 characters of A-Z a-z 0-9 - .
	// _ ~ : + / =. An invalid value is ignored. If empty, there is none.
	RequestID string
}

// OnBusy is what a trigger does if a run of its conversation is queued or running. The
// runs of a conversation execute one at a time, in creation order.
type OnBusy string

// Values of OnBusy.
const (
	BusyEnqueue   OnBusy = "enqueue"   // its run waits for its turn
	BusyReject    OnBusy = "reject"    // it fails with ErrConversationBusy, and nothing is stored
	BusyInterrupt OnBusy = "interrupt" // it cancels the unfinished runs; its run starts when they have ended
)

// Limits of the texts of a trigger, in Unicode code points.
const (
	MaxMessageRunes         = 50_000
	MaxSubjectRunes         = 255
	MaxConversationKeyRunes = 255
)

// MaxUnfinishedRuns is the maximum number of unfinished runs of a conversation.
const MaxUnfinishedRuns = 1000

// Trigger creates a trigger for a caller that the host has authenticated. It applies
// the same rules and the same transaction as the HTTP endpoint, and this process may
// claim the run immediately. It requires [Options.BaseURL], or APIBase and
// SessionBase.
//
// It returns a [RequestError] if req is invalid, ErrChannelDisabled if the channel is
// disabled, ErrNotFound if the conversation to continue does not exist,
// ErrConversationBusy if it is busy and req.OnBusy is BusyReject, and ErrQueueFull if
// the queue limit is reached. That is also ErrConversationFull if the limit is the
// conversation's. If ctx ends during the call, the trigger may have been stored.
func (s *Service) Trigger(ctx context.Context, assistantID string, req TriggerRequest) (Run, error) {
	caller, err := s.hostCaller(ctx, s.store, assistantID)
	if err != nil {
		return Run{}, err
	}
	// The host may reuse its buffers when Trigger returns. The Runner, and a write whose
	// outcome is unknown, still use these.
	req.Context, req.Metadata = bytes.Clone(req.Context), bytes.Clone(req.Metadata)
	t, err := s.prepare(ctx, s.store, caller, req, checkValues(req))
	if err != nil {
		return Run{}, err
	}
	accepted, err := s.accept(ctx, t)
	if err == nil {
		s.opts.Hooks.triggered(ctx, accepted)
	}
	return accepted.Run, err
}

// TriggerVia creates a trigger through another TriggerStore, such as one inside a
// transaction of the host. It applies the rules of [Service.Trigger]. The run exists
// when the host commits. It is queued and never claimed by this call. If the store
// does not wake workers itself, the host should call [Service.Wake] after the commit.
//
// TriggerVia resolves the host name of a callback URL before it uses store, for at
// most 2 s. Locks of the host's transaction are kept during that time, so call
// TriggerVia early in the transaction.
func (s *Service) TriggerVia(ctx context.Context, store TriggerStore, assistantID string, req TriggerRequest) (Run, error) {
	var target callbackTarget
	var refusal error
	if req.CallbackURL != "" {
		target, refusal = s.lookUp(ctx, req.CallbackURL)
	}
	caller, err := s.hostCaller(ctx, store, assistantID)
	if err != nil {
		return Run{}, err
	}
	caller.lookUp = func(context.Context, string) (callbackTarget, error) { return target, refusal }
	t, err := s.prepare(ctx, store, caller, req, checkValues(req))
	if err != nil {
		return Run{}, err
	}
	accepted, err := store.CreateTrigger(auditedTrigger(ctx, &t), t)
	if err != nil {
		return Run{}, fmt.Errorf("create trigger: %w", err)
	}
	s.reportInterrupted(ctx, accepted)
	s.opts.Hooks.triggered(ctx, accepted)
	return accepted.Run, nil
}

// reportInterrupted reports the runs that a trigger has ended.
func (s *Service) reportInterrupted(ctx context.Context, accepted CreatedTrigger) {
	for _, run := range accepted.Interrupted {
		s.log.With(run.logFields()...).InfoContext(ctx, "run interrupted", "assistant_id", run.AssistantID, "by_run_id", accepted.Run.ID)
		s.opts.Hooks.ended(ctx, run)
	}
}

// caller identifies the source of a trigger and the base of the URLs in the response.
type caller struct {
	channel Channel
	keyID   int64
	keyName string // "" for a Go call
	blind   bool   // the key must not read the run

	unchecked bool // the key was read in an earlier request

	base   bases
	lookUp func(ctx context.Context, callbackURL string) (callbackTarget, error) // nil: Service.lookUp
}

func (s *Service) hostCaller(ctx context.Context, store TriggerStore, assistantID string) (caller, error) {
	base, ok := s.configuredBases()
	if !ok {
		return caller{}, errors.New("webtrigger: trigger from Go: set Options.BaseURL")
	}
	if !ValidAssistantID(assistantID) {
		return caller{}, &RequestError{Faults: []Fault{{"/assistant_id", assistantIDRule}}}
	}
	channel, err := store.Channel(ctx, assistantID)
	if err != nil {
		return caller{}, fmt.Errorf("read channel: %w", err)
	}
	if !channel.Enabled {
		return caller{}, ErrChannelDisabled
	}
	return caller{channel: channel, base: base}, nil
}

// prepare validates a request and returns the trigger to store. found contains the
// faults of decoding. All faults are reported together.
func (s *Service) prepare(ctx context.Context, store TriggerStore, c caller, req TriggerRequest, found faults) (NewTrigger, error) {
	f := found
	checkMessage(req.Message, &f)
	subject := checkSubject(req.Subject, c.keyName, &f)
	if req.Context != nil && !f.on("/context") && !strictjson.IsObject(req.Context) {
		f.add("/context", "must be a JSON object")
	}
	task, err := checkTaskID(ctx, store, c.channel.AssistantID, req.TaskDefinitionID, &f)
	if err != nil {
		return NewTrigger{}, err
	}
	callbackHost := s.checkCallbackURL(ctx, c, req.CallbackURL, &f)
	checkConversation(&req, &f)
	if err := f.err(); err != nil {
		return NewTrigger{}, err
	}
	return NewTrigger{
		RunKey:          newRunKey(),
		AssistantID:     c.channel.AssistantID,
		ConversationID:  req.ConversationID,
		ConversationKey: req.ConversationKey,
		OnBusy:          req.OnBusy,
		MaxUnfinished:   MaxUnfinishedRuns,
		KeyID:           c.keyID,
		Input:           RunInput{Subject: subject, Message: req.Message, Context: req.Context, Metadata: req.Metadata},
		TaskDefinition:  task,
		BaseURL:         c.base.stored(),
		CallbackURL:     req.CallbackURL,
		CallbackHost:    callbackHost,
		TraceParent:     s.opts.Hooks.traceParent(ctx, req.TraceParent),
		RequestID:       wire.SaneRequestID(req.RequestID),
		MaxQueued:       s.opts.Limits.QueuedPerAssistant,
	}, nil
}

// newRunKey returns a UUID of version 7 (RFC 9562). Keys that are created in sequence
// are adjacent in the store's index.
func newRunKey() string { return uuid.Must(uuid.NewV7()).String() }

// accept stores the trigger. If a worker of this process is free, it claims the run
// in the same transaction and starts it. With limits of running runs, it does not: only
// ClaimRuns checks them.
func (s *Service) accept(ctx context.Context, t NewTrigger) (CreatedTrigger, error) {
	// Once begun, the write is not given up with its caller: a client that hangs
	// up must not leave a claimed run without a worker.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
	defer cancel()
	ctx = auditedTrigger(ctx, &t)

	var call *claimCall
	reserved := !s.opts.Limits.limitsRunning() && s.worker.reserveIdle(t.AssistantID)
	if reserved {
		if call = s.process.begin(1); call == nil {
			s.giveBackSlot()
		}
	}
	if call != nil {
		t.Claim = &Claimant{ProcessID: call.processID, Token: call.token}
	}
	claimedAt := time.Now()
	accepted, err := s.store.CreateTrigger(ctx, t)
	if reserved {
		s.worker.created(t.AssistantID)
	}
	if call != nil {
		defer s.process.end(call, err)
	}
	if err != nil {
		if call != nil {
			s.giveBackSlot()
		}
		return CreatedTrigger{}, fmt.Errorf("%w: %w", errCreation, err)
	}
	s.reportInterrupted(ctx, accepted)
	if accepted.Lease == nil {
		if !accepted.Replayed && !accepted.Run.Behind {
			s.worker.sawQueued() // the store's hint may come before this process watches
		}
		s.checkWorkers()
	}
	switch {
	case accepted.Lease != nil:
		s.start(call, ClaimedRun{Run: accepted.Run, Input: t.Input, Lease: *accepted.Lease}, claimedAt)
	case call != nil:
		s.giveBackSlot()
	}
	return accepted, nil
}

// giveBackSlot frees the slot of a trigger whose run was not claimed. A concurrent
// claim may have found no free slot, so it wakes the workers.
func (s *Service) giveBackSlot() {
	s.worker.giveBack(1)
	signal(s.worker.wake)
}

func checkMessage(message string, f *faults) {
	const at = "/message"
	switch {
	case f.on(at):
	case !wire.CleanText(message):
		f.add(at, "must be valid UTF-8 without NUL characters")
	case blank(message):
		f.add(at, "must not be blank")
	case utf8.RuneCountInString(message) > MaxMessageRunes:
		f.add(at, "must have at most 50,000 characters")
	}
}

// checkSubject returns the subject to store, which is never blank.
func checkSubject(subject, keyName string, f *faults) string {
	const at = "/subject"
	switch {
	case f.on(at):
	case !wire.CleanText(subject):
		f.add(at, "must be valid UTF-8 without NUL characters")
	case utf8.RuneCountInString(subject) > MaxSubjectRunes:
		f.add(at, "must have at most 255 characters")
	case !blank(subject):
		return subject
	case keyName != "":
		return "Web trigger (" + keyName + ")"
	}
	return "Web trigger"
}

const onBusyRule = "must be enqueue, reject or interrupt"

// checkConversation checks the fields that name a conversation.
func checkConversation(req *TriggerRequest, f *faults) {
	const at, busyAt = "/conversation_key", "/on_busy"
	switch key := req.ConversationKey; {
	case f.on(at):
	case !wire.CleanText(key):
		f.add(at, "must be valid UTF-8 without NUL characters")
	case strings.ContainsFunc(key, unicode.IsControl):
		f.add(at, "must not contain control characters")
	case utf8.RuneCountInString(key) > MaxConversationKeyRunes:
		f.add(at, "must have at most 255 characters")
	case key != "" && req.ConversationID != 0:
		f.add(at, "must be empty if a conversation id is given")
	}
	switch {
	case f.on(busyAt):
	case req.OnBusy != "" && req.OnBusy != BusyEnqueue && req.OnBusy != BusyReject && req.OnBusy != BusyInterrupt:
		f.add(busyAt, onBusyRule)
	case req.OnBusy != "" && req.ConversationKey == "" && req.ConversationID == 0 && !f.on(at):
		f.add(busyAt, "needs conversation_key")
	}
}

// checkValues applies to JSON from Go the rules that apply to whole HTTP bodies.
func checkValues(req TriggerRequest) (f faults) {
	if req.Context != nil {
		checkJSON("/context", req.Context, &f)
	}
	if req.Metadata != nil {
		checkJSON("/metadata", req.Metadata, &f)
	}
	if req.TaskDefinitionID < 0 {
		f.add("/task_definition_id", "must be positive")
	}
	return f
}

// checkTaskID returns the definition that a run must keep. The fault does not reveal
// whether a rejected definition is unknown, inactive or another assistant's.
func checkTaskID(ctx context.Context, store TriggerStore, assistantID string, id int64, f *faults) (*TaskDefinition, error) {
	const at = "/task_definition_id"
	if id == 0 || f.on(at) {
		return nil, nil
	}
	task, err := store.TaskDefinition(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("read task definition: %w", err)
	}
	if err != nil || task.AssistantID != assistantID || !task.Active {
		f.add(at, "is not an active task definition of this assistant")
		return nil, nil
	}
	return &task, nil
}

// checkCallbackURL checks a callback URL early, so that the caller gets an immediate
// error. The decisive check is the guard at connect time. It returns the URL's
// host:port.
func (s *Service) checkCallbackURL(ctx context.Context, c caller, raw string, f *faults) (host string) {
	const at = "/callback_url"
	if raw == "" || f.on(at) {
		return ""
	}
	if !c.channel.AllowCallbackURLs {
		f.add(at, "is not allowed: this assistant does not accept callback URLs")
		return ""
	}
	lookUp := c.lookUp
	if lookUp == nil {
		lookUp = s.lookUp
	}
	target, err := lookUp(ctx, raw)
	var blocked *egress.Blocked
	if errors.As(err, &blocked) {
		f.add(at, blocked.Error())
	}
	return target.host
}

// callbackTarget is the destination of a callback URL.
type callbackTarget struct {
	host   string // host:port
	looked bool   // the name was resolved
}

// lookUp parses a callback URL and resolves its host name, for at most 2 s. The error
// is an [egress.Blocked].
func (s *Service) lookUp(ctx context.Context, callbackURL string) (callbackTarget, error) {
	target, err := s.guard.ParseURL(callbackURL)
	if err != nil {
		return callbackTarget{}, err
	}
	return callbackTarget{host: target.HostPort(), looked: target.IsName()}, s.guard.CheckTarget(ctx, target)
}

// prompt returns what the assistant sees: the message and, if context has members, a
// blank line, "Context:" and one "key: value" line per member in the order sent.
func prompt(message string, context json.RawMessage) string {
	if context == nil {
		return message
	}
	pairs := strictjson.Members(context)
	if len(pairs) == 0 {
		return message
	}
	var b strings.Builder
	b.WriteString(message)
	b.WriteString("\n\nContext:")
	for _, p := range pairs {
		b.WriteString("\n" + oneLine(p.Key) + ": " + contextValue(p.Raw))
	}
	return b.String()
}

// contextValue is a string as it is where that is harmless, else the JSON that
// was sent, on one line.
func contextValue(raw json.RawMessage) string {
	if s, ok := strictjson.String(raw); ok {
		return oneLine(s)
	}
	if bytes.ContainsAny(raw, "\r\n") { // white space between tokens
		var b bytes.Buffer
		if json.Compact(&b, raw) == nil {
			raw = b.Bytes()
		}
	}
	return string(raw)
}

// oneLine is s, or s as a JSON string when it has a line break, a control
// character or outer white space: nothing in a pair can look like another one.
func oneLine(s string) string {
	if s == strings.TrimSpace(s) && !strings.ContainsFunc(s, breaksLine) {
		return s
	}
	raw, err := wire.Marshal(s)
	if err != nil { // a string always marshals
		return ""
	}
	var b strings.Builder
	for _, r := range string(raw) {
		if breaksLine(r) { // C1 controls, which JSON does not escape
			const hex = "0123456789abcdef"
			b.WriteString(`\u00`)
			b.WriteByte(hex[r>>4&0xf])
			b.WriteByte(hex[r&0xf])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// breaksLine reports control characters (NEL and the other C1 ones included)
// and the Unicode line and paragraph separators.
func breaksLine(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
}

// storedTime is a time as stores keep it.
func storedTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// blank reports whether s has nothing but white space.
func blank(s string) bool { return strings.TrimSpace(s) == "" }

// checkJSON holds a JSON value that came from Go to the rules of the intake.
// pointer is its place in the request.
func checkJSON(pointer string, raw json.RawMessage, f *faults) {
	found, err := strictjson.Value(raw)
	var syntax *strictjson.SyntaxError
	if errors.As(err, &syntax) {
		f.add(pointer, "is not valid JSON: "+syntax.Detail)
	}
	for _, fault := range found {
		f.add(pointer+fault.Pointer, fault.Detail)
	}
}
