package webtrigger

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

func (s *Service) serveTrigger(w http.ResponseWriter, r *http.Request, assistantID string) error {
	if err := allowMethods(r, http.MethodPost); err != nil {
		return err
	}
	hash, err := requestKey(r)
	if err != nil {
		return err
	}
	read := s.bodyOf(w, r)
	if grant, ok := s.known.Get(hash); ok && grant.Key.AssistantID == assistantID && checkable(r) {
		if done, err := s.receiveUnchecked(w, r, hash, grant, read); done {
			return err
		}
	}
	grant, err := s.authenticateKey(r, hash, 0, 0)
	if err != nil {
		return err
	}
	if grant.Key.AssistantID != assistantID {
		return &wire.Problem{Status: http.StatusForbidden, Code: "forbidden",
			Detail: "This API key belongs to another assistant. Use a key of the assistant in the path."}
	}
	if !grant.Key.May(ScopeTrigger) {
		return missingScope(ScopeTrigger)
	}
	s.known.Set(hash, grant)
	return s.receive(w, r, callerOf(grant), read)
}

// maxKnownKeys is how many API keys a process remembers. A request with one of them needs no
// read of its key: the store checks it in the transaction that creates the trigger. For any
// other response than a new trigger, the key is read first, and decides as in any other
// request.
const maxKnownKeys = 4096

// receiveUnchecked is receive for a known API key, which the store checks as it creates the
// trigger. It reports false, and nothing is stored, if the key must be read first.
func (s *Service) receiveUnchecked(w http.ResponseWriter, r *http.Request, hash KeyHash, grant Grant, read func() ([]byte, error)) (done bool, _ error) {
	c := callerOf(grant)
	c.unchecked = true
	accepted, err := s.createOrReplay(w, r, c, s.whileValid(w, r, hash, read))
	if err == nil {
		s.used(r.Context(), c.keyID)
		return true, s.answerAccepted(w, r, c, accepted)
	}
	if errors.Is(err, errCreation) && !errors.Is(err, ErrKeyChanged) {
		return true, err // perhaps stored
	}
	s.known.Delete(hash)
	if rejected, ok := errors.AsType[rejectedKey](err); ok {
		return true, rejected.error
	}
	return false, nil
}

// checkable reports whether the store can check the API key of a request as it creates the
// trigger. Before the replay of an Idempotency-Key, and before the response 100
// that asks for a body, the key must be read.
func checkable(r *http.Request) bool {
	return len(r.Header["Idempotency-Key"]) == 0 && len(r.Header["Expect"]) == 0
}

// bodyPatience is how long the body of a request may take before its known API key is read.
const bodyPatience = 20 * time.Millisecond

// rejectedKey is why a request is rejected whose body was not complete.
type rejectedKey struct{ error }

// whileValid returns what reads a body as read does, and stops if the API key turns out to be
// invalid before the body is complete. So an invalid key is rejected without its body.
func (s *Service) whileValid(w http.ResponseWriter, r *http.Request, hash KeyHash, read func() ([]byte, error)) func() ([]byte, error) {
	return func() ([]byte, error) {
		checked := make(chan error, 1)
		late := time.AfterFunc(bodyPatience, func() {
			_, err := s.authenticateKey(r, hash, 0, 0)
			if err != nil {
				_ = http.NewResponseController(w).SetReadDeadline(time.Now())
			}
			checked <- err
		})
		body, err := read()
		if !late.Stop() { // wait, or it may end the reads of the next request
			if rejected := <-checked; rejected != nil {
				return nil, rejectedKey{rejected}
			}
		}
		return body, err
	}
}

func callerOf(grant Grant) caller {
	return caller{channel: grant.Channel, keyID: grant.Key.ID, keyName: grant.Key.Name, blind: !grant.Key.May(ScopeRead)}
}

// bodyOf returns what reads the body of a request once.
func (s *Service) bodyOf(w http.ResponseWriter, r *http.Request) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) { return wire.ReadJSON(w, r, s.opts.MaxBodyBytes) })
}

// ServeTrigger responds to r as the trigger endpoint does, for a caller that the host
// has authenticated. Body, rules and responses are the same, without an API key. It
// ignores the path and the method. The run has no API key. An Idempotency-Key applies
// to the assistant, as with an API key.
func (s *Service) ServeTrigger(w http.ResponseWriter, r *http.Request, assistantID string) {
	wire.SetRequestID(w, r)
	w, r, done := s.opts.Hooks.request(w, r, routeTrigger)
	defer done()
	if err := s.serveHostTrigger(w, r, assistantID); err != nil {
		s.writeError(w, r, err)
	}
}

func (s *Service) serveHostTrigger(w http.ResponseWriter, r *http.Request, assistantID string) error {
	channel, err := s.Channel(r.Context(), assistantID)
	if err != nil {
		return fmt.Errorf("read channel: %w", err)
	}
	return s.receive(w, r, caller{channel: channel}, s.bodyOf(w, r))
}

// receive is the trigger endpoint once its caller is known.
func (s *Service) receive(w http.ResponseWriter, r *http.Request, c caller, read func() ([]byte, error)) error {
	accepted, err := s.createOrReplay(w, r, c, read)
	if err != nil {
		return err
	}
	return s.answerAccepted(w, r, c, accepted)
}

// createOrReplay creates the trigger of a request, or returns the one that it repeats.
func (s *Service) createOrReplay(w http.ResponseWriter, r *http.Request, c caller, read func() ([]byte, error)) (CreatedTrigger, error) {
	if !c.channel.Enabled {
		return CreatedTrigger{}, ErrChannelDisabled
	}
	body, err := read()
	if err != nil {
		return CreatedTrigger{}, err
	}
	use, err := idempotency(r.Header, body)
	if err != nil {
		return CreatedTrigger{}, err
	}
	if use != nil {
		run, err := s.store.Replay(r.Context(), c.channel.AssistantID, *use)
		if err == nil {
			return CreatedTrigger{Run: run, Replayed: true}, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return CreatedTrigger{}, fmt.Errorf("look up idempotency key: %w", err)
		}
	}
	limited, looked := s.rate.Limits(c.keyID), false
	var left wire.Quota
	if limited {
		var ok bool
		if left, ok = s.rate.Take(c.keyID); !ok {
			return CreatedTrigger{}, rateLimited(left)
		}
	}
	c.lookUp = func(ctx context.Context, url string) (callbackTarget, error) {
		target, err := s.lookUp(ctx, url)
		looked = looked || target.looked
		return target, err
	}
	accepted, err := s.createInFlight(w, r, c, body, use)
	if limited && (err != nil && (!looked || c.unchecked) || accepted.Replayed) {
		s.rate.Return(c.keyID) // it made no run, or is tried again
	}
	if err == nil && limited && !accepted.Replayed {
		left.Set(w.Header())
	}
	return accepted, err
}

// maxCreations is how many trigger creations of an API key may be under way in a
// process. A creation outlives a client that resets its request.
const maxCreations = 2000

// createInFlight is create within the bound of its key.
func (s *Service) createInFlight(w http.ResponseWriter, r *http.Request, c caller, body []byte, use *Idempotency) (CreatedTrigger, error) {
	if !s.creations.Begin(c.keyID) {
		return CreatedTrigger{}, &wire.Problem{Status: http.StatusServiceUnavailable, Code: "unavailable",
			Detail: "This API key has too many triggers under way. Try again later.", RetryAfter: time.Second}
	}
	defer s.creations.End(c.keyID)
	return s.create(w, r, c, body, use)
}

// create creates the trigger that a body asks for.
func (s *Service) create(w http.ResponseWriter, r *http.Request, c caller, body []byte, use *Idempotency) (CreatedTrigger, error) {
	req, found, err := decodeTrigger(body)
	if err != nil {
		return CreatedTrigger{}, err
	}
	if found.on("") { // no object, no fields
		return CreatedTrigger{}, found.err()
	}
	req.TraceParent, req.RequestID = traceParentOf(r.Header), wire.RequestID(w)
	if c.base, err = s.requestBases(r); err != nil {
		return CreatedTrigger{}, err
	}
	t, err := s.prepare(r.Context(), s.store, c, req, found)
	if err != nil {
		return CreatedTrigger{}, err
	}
	t.Idempotency, t.CheckKey = use, c.unchecked
	s.rememberMount(r)
	if err := r.Context().Err(); err != nil { // the client has probably disconnected: create no run
		return CreatedTrigger{}, err
	}
	return s.accept(r.Context(), t)
}

// answerAccepted responds to a request whose trigger is stored.
func (s *Service) answerAccepted(w http.ResponseWriter, r *http.Request, c caller, accepted CreatedTrigger) error {
	s.log.InfoContext(r.Context(), "trigger accepted", "request_id", wire.RequestID(w), "assistant_id", c.channel.AssistantID,
		"key_id", c.keyID, "run_id", accepted.Run.ID, "run_key", accepted.Run.Key, "replayed", accepted.Replayed)
	s.opts.Hooks.triggered(r.Context(), accepted)
	if c.blind { // the end of the run is not for this key
		return writeAccepted(w, accepted)
	}
	waited, err := s.waitFor(w, r, c.keyID, &accepted.Run, 0, true)
	if err != nil {
		return writeAccepted(w, accepted) // the context has ended, but perhaps the client still reads
	}
	run := accepted.Run
	preferred := w.Header().Get("Preference-Applied") != ""
	if waited || preferred && run.Status.Terminal() { // a replayed run is without its result
		if run, err = s.readAgain(r, c, run); err != nil {
			return writeAccepted(w, accepted) // the trigger is stored; the key or the store may have failed since then
		}
	}
	if !preferred || !run.Status.Terminal() {
		return writeAccepted(w, accepted)
	}
	body, err := statusBody(&run, nil)
	if err != nil {
		return err
	}
	if accepted.Replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	wire.WriteBody(w, http.StatusOK, "application/json", body)
	return nil
}

// readAgain is a run as it is now, for a caller who may still see it.
func (s *Service) readAgain(r *http.Request, c caller, run Run) (Run, error) {
	if c.keyID == 0 {
		ctx, cancel := context.WithTimeout(r.Context(), statementTimeout)
		defer cancel()
		return s.store.RunByID(ctx, run.ID)
	}
	grant, err := s.authenticate(r, run.ConversationID, run.ID)
	if err == nil && grant.Run == nil {
		err = wire.NotFound()
	}
	if err != nil {
		return Run{}, err
	}
	return s.shown(r, grant)
}

// decodeTrigger reads the body of a trigger. The error is a *strictjson.SyntaxError.
func decodeTrigger(body []byte) (req TriggerRequest, found faults, err error) {
	members, parsed, err := strictjson.Parse(body)
	if err != nil {
		return req, nil, err
	}
	for _, f := range append(parsed, strictjson.Unknown(members,
		"message", "subject", "context", "task_definition_id", "callback_url", "metadata", "conversation_key", "on_busy")...) {
		found.add(f.Pointer, f.Detail)
	}
	if members == nil {
		if len(found) == 0 {
			found.add("/message", "is required")
		}
		return req, found, nil
	}
	text := func(m strictjson.Member, into *string) {
		var ok bool
		if *into, ok = strictjson.String(m.Raw); !ok {
			found.add("/"+m.Key, "must be a string")
		}
	}
	hasMessage := false
	for _, m := range members {
		if strictjson.IsNull(m.Raw) && m.Key != "message" && m.Key != "metadata" {
			continue
		}
		switch m.Key {
		case "message":
			hasMessage = true
			text(m, &req.Message)
		case "subject":
			text(m, &req.Subject)
		case "context":
			req.Context = m.Raw
			if isEmptyString(m.Raw) {
				found.add("/context", "must be a JSON object: leave it out or send null")
			}
		case "task_definition_id":
			id, ok := strictjson.PositiveInt64(m.Raw)
			switch {
			case isEmptyString(m.Raw):
				found.add("/"+m.Key, "must be a positive integer: leave it out or send null")
			case !ok:
				found.add("/"+m.Key, "must be a positive integer")
			}
			req.TaskDefinitionID = id
		case "callback_url":
			if text(m, &req.CallbackURL); req.CallbackURL == "" && !found.on("/callback_url") {
				found.add("/callback_url", "must not be empty: leave it out or send null")
			}
		case "conversation_key":
			if text(m, &req.ConversationKey); req.ConversationKey == "" && !found.on("/"+m.Key) {
				found.add("/"+m.Key, "must not be empty: leave it out or send null")
			}
		case "on_busy":
			var onBusy string
			if text(m, &onBusy); onBusy == "" && !found.on("/"+m.Key) {
				found.add("/"+m.Key, onBusyRule)
			}
			req.OnBusy = OnBusy(onBusy)
		case "metadata":
			if !strictjson.IsNull(m.Raw) {
				req.Metadata = m.Raw
			}
		}
	}
	if !hasMessage {
		found.add("/message", "is required")
	}
	return req, found, nil
}

// isEmptyString reports whether a value is "", which forms and no-code tools send
// for a field without a value.
func isEmptyString(raw json.RawMessage) bool {
	text, ok := strictjson.String(raw)
	return ok && text == ""
}

// idempotencyTTL is how long a trigger is found by its Idempotency-Key.
const idempotencyTTL = 24 * time.Hour

// idempotency reads the Idempotency-Key header: 1 to 255 visible characters,
// bare or as the quoted string of the IETF draft; nil without one.
func idempotency(h http.Header, body []byte) (*Idempotency, error) {
	values := h.Values("Idempotency-Key")
	if len(values) == 0 {
		return nil, nil
	}
	key := values[0]
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(key[1 : n-1])
	}
	ok := len(values) == 1 && len(key) >= 1 && len(key) <= 255
	for i := range len(key) {
		ok = ok && key[i] > ' ' && key[i] < 0x7f
	}
	if !ok {
		return nil, wire.BadRequest("invalid_idempotency_key", "Idempotency-Key must be one value of 1 to 255 visible ASCII characters.")
	}
	return &Idempotency{Key: key, BodyHash: sha256.Sum256(body), TTL: idempotencyTTL}, nil
}

// traceParentOf is the traceparent header (W3C Trace Context §3.2), "" unless
// there is exactly one. Trigger creation validates it.
func traceParentOf(h http.Header) string {
	if values := h.Values("traceparent"); len(values) == 1 {
		return values[0]
	}
	return ""
}

func writeAccepted(w http.ResponseWriter, accepted CreatedTrigger) error {
	run := accepted.Run
	h := w.Header()
	h.Set("Location", run.StatusURL())
	h.Set("Retry-After", "1")
	if accepted.Replayed {
		h.Set("Idempotent-Replayed", "true")
	}
	return wire.WriteJSON(w, http.StatusAccepted, struct {
		TriggerID int64  `json:"trigger_id"`
		Status    string `json:"status"`
		StatusURL string `json:"status_url"`
		RunID     int64  `json:"run_id"`
		RunKey    string `json:"run_key"`
		EventsURL string `json:"events_url"`
		StreamURL string `json:"stream_url"`
	}{run.ConversationID, "accepted", run.StatusURL(), run.ID, run.Key, run.EventsURL(), run.StreamURL()})
}
