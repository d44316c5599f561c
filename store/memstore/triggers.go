package memstore

import (
	"context"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// conversation is a conversation with all that belongs to it.
type conversation struct {
	webtrigger.Conversation
	messages []webtrigger.Message // id n is at n-1
	events   []webtrigger.Event   // id n is at n-1
	runs     []*run               // never empty
	first    int64                // the id of the run that started it, which may be purged
	open     []*run               // those that have not ended, by id; the first is the head of the lane
	purged   int64                // the highest id of a purged event; 0: none
}

// request names an idempotency record.
type request struct{ assistantID, key string }

// record is what an idempotency key stands for while it lives.
type record struct {
	request
	bodyHash   [32]byte
	run        *run
	expires    time.Time
	expiringAt int // place in Store.expiring
}

// CreateTrigger implements [webtrigger.TriggerStore]. It declines a
// claim if the process is not registered or is lost.
func (s *Store) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	defer s.unlock()
	now := s.now()
	if t.CheckKey && !s.permits(&t, now) {
		return webtrigger.CreatedTrigger{}, webtrigger.ErrKeyChanged
	}
	if t.Idempotency != nil {
		if r, err := s.replay(t.AssistantID, *t.Idempotency, now); err != nil {
			return webtrigger.CreatedTrigger{}, err
		} else if r != nil {
			return webtrigger.CreatedTrigger{Run: r.summary(), Replayed: true}, nil
		}
	}
	conv := s.conversations.get(t.ConversationID)
	if t.ConversationID != 0 && (conv == nil || conv.AssistantID != t.AssistantID) {
		return webtrigger.CreatedTrigger{}, webtrigger.ErrNotFound
	}
	if conv == nil && t.ConversationKey != "" {
		conv = s.lanes[laneKey{t.AssistantID, t.ConversationKey}]
	}
	busy, freed, err := conv.admits(&t)
	if err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	var claimant *process
	if t.Claim != nil && !busy {
		claimant = s.alive(t.Claim.ProcessID)
	}
	if t.MaxQueued > 0 && claimant == nil && s.bounded[t.AssistantID]-freed >= t.MaxQueued {
		return webtrigger.CreatedTrigger{}, webtrigger.ErrQueueFull
	}

	input := cloneInput(t.Input)
	if conv == nil {
		conv = s.converse(t, input, now)
	}
	var interrupted []webtrigger.Run
	if t.OnBusy == webtrigger.BusyInterrupt {
		interrupted = s.interrupt(conv, webtrigger.InterruptStop(s.runs.nextID()), now)
	}
	r := s.accept(conv, t, input, now)
	s.audit(ctx, r.ID)
	if t.Idempotency != nil {
		s.remember(t.AssistantID, *t.Idempotency, r, now)
	}
	if claimant == nil {
		s.enqueue(r, now)
		return webtrigger.CreatedTrigger{Run: r.copy(), Interrupted: interrupted}, nil
	}
	lease := s.take(r, claimant, t.Claim.Token, now)
	return webtrigger.CreatedTrigger{Run: r.copy(), Lease: &lease, Interrupted: interrupted}, nil
}

// permits reports whether the API key of a trigger, and its channel, still permit it.
func (s *Store) permits(t *webtrigger.NewTrigger, now time.Time) bool {
	k, channel := s.keys.get(t.KeyID), s.channel(t.AssistantID)
	return k != nil && k.AssistantID == t.AssistantID && k.valid(now) && channel.Enabled && (t.CallbackURL == "" || channel.AllowCallbackURLs)
}

// converse starts a conversation.
func (s *Store) converse(t webtrigger.NewTrigger, input webtrigger.RunInput, now time.Time) *conversation {
	id := s.runs.nextID() // as in other stores, a conversation has the id of its first run
	s.conversations = append(s.conversations, make([]*conversation, id-s.conversations.nextID())...)
	conv := &conversation{first: id, Conversation: webtrigger.Conversation{
		ID:          id,
		AssistantID: t.AssistantID,
		Key:         t.ConversationKey,
		Subject:     input.Subject,
		Metadata:    input.Metadata,
		CreatedAt:   now,
	}}
	s.conversations = append(s.conversations, conv)
	if conv.Key != "" {
		s.lanes[laneKey{t.AssistantID, conv.Key}] = conv
	}
	return conv
}

// accept adds a run to a conversation, with its message and its first event. It
// neither waits nor is it taken yet.
func (s *Store) accept(conv *conversation, t webtrigger.NewTrigger, input webtrigger.RunInput, now time.Time) *run {
	r := &run{conv: conv, input: input, host: t.CallbackHost, bounded: t.MaxQueued > 0, Run: webtrigger.Run{
		ID:              s.runs.nextID(),
		Key:             t.RunKey,
		ConversationID:  conv.ID,
		Continues:       len(conv.runs) > 0,
		Behind:          len(conv.open) > 0,
		ConversationKey: conv.Key,
		AssistantID:     t.AssistantID,
		KeyID:           t.KeyID,
		Status:          webtrigger.RunQueued,
		TaskDefinition:  cloneTaskPointer(t.TaskDefinition),
		BaseURL:         t.BaseURL,
		CallbackURL:     t.CallbackURL,
		TraceParent:     t.TraceParent,
		RequestID:       t.RequestID,
		CreatedAt:       now,
	}}
	if t.TaskDefinition != nil {
		r.TaskDefinitionID = t.TaskDefinition.ID
	}
	s.runs = append(s.runs, r)
	s.runOf[r.Key] = r
	conv.runs = append(conv.runs, r)
	conv.open = append(conv.open, r)
	r.addMessages(now, webtrigger.NewMessage{Role: webtrigger.RoleUser, Content: input.Message})
	s.log(r, now, webtrigger.QueuedEvent())
	return r
}

// Replay implements [webtrigger.TriggerStore].
func (s *Store) Replay(ctx context.Context, assistantID string, use webtrigger.Idempotency) (webtrigger.Run, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Run{}, err
	}
	defer s.unlock()
	r, err := s.replay(assistantID, use, s.now())
	if err != nil {
		return webtrigger.Run{}, err
	}
	if r == nil {
		return webtrigger.Run{}, webtrigger.ErrNotFound
	}
	return r.summary(), nil
}

// replay returns the run of the live record, or nil when there is none.
func (s *Store) replay(assistantID string, use webtrigger.Idempotency, now time.Time) (*run, error) {
	rec := s.requests[request{assistantID, use.Key}]
	if rec == nil || !now.Before(rec.expires) {
		return nil, nil
	}
	if rec.bodyHash != use.BodyHash {
		return nil, webtrigger.ErrIdempotencyKeyReused
	}
	return rec.run, nil
}

// remember creates a record, also instead of an expired one. Each new record deletes up
// to two expired ones. So the records of the longest lifetime bound the memory, and no
// call deletes all that have expired in an idle hour.
func (s *Store) remember(assistantID string, use webtrigger.Idempotency, r *run, now time.Time) {
	rec := &record{
		request:  request{assistantID, use.Key},
		bodyHash: use.BodyHash,
		run:      r,
		expires:  now.Add(use.TTL),
	}
	if old := s.requests[rec.request]; old != nil {
		s.forget(old)
	}
	for range 2 {
		if old := s.expiring.first(); old != nil && !now.Before(old.expires) {
			s.forget(old)
		}
	}
	s.requests[rec.request] = rec
	r.record = rec
	s.expiring.add(rec)
}

func (s *Store) forget(rec *record) {
	rec.run.record = nil
	delete(s.requests, rec.request)
	s.expiring.remove(rec)
}
