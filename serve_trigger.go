package webtrigger

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// ServeTrigger answers r as the trigger endpoint does, for a caller that the
// host has authenticated itself: the same body, rules and answers, without an
// API key. It looks neither at the path nor at the method. The run has no key,
// and an Idempotency-Key counts for the assistant as always.
func (s *Service) ServeTrigger(w http.ResponseWriter, r *http.Request, assistantID string) {
	wire.SetRequestID(w, r)
	if err := s.serveHostTrigger(w, r, assistantID); err != nil {
		s.WriteError(w, r, err)
	}
}

func (s *Service) serveHostTrigger(w http.ResponseWriter, r *http.Request, assistantID string) error {
	channel, err := s.Channel(r.Context(), assistantID)
	if err != nil {
		return fmt.Errorf("read channel: %w", err)
	}
	return s.receive(w, r, caller{channel: channel})
}

// receive is the trigger endpoint once its caller is known.
func (s *Service) receive(w http.ResponseWriter, r *http.Request, c caller) error {
	if !c.channel.Enabled {
		return ErrChannelDisabled
	}
	assistantID := c.channel.AssistantID
	body, err := wire.ReadJSON(w, r, s.opts.MaxBodyBytes)
	if err != nil {
		return err
	}
	use, err := idempotency(r.Header, body)
	if err != nil {
		return err
	}
	if use != nil {
		run, err := s.store.Replay(r.Context(), assistantID, *use)
		if err == nil {
			return writeAccepted(w, Accepted{Run: run, Replayed: true})
		}
		if !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("look up idempotency key: %w", err)
		}
	}
	req, found, err := decodeTrigger(body)
	if err != nil {
		return err
	}
	if found.on("") { // no object, no fields
		return found.err()
	}
	if c.base, err = s.requestBase(r); err != nil {
		return err
	}
	t, err := s.prepare(r.Context(), s.store, c, req, found)
	if err != nil {
		return err
	}
	t.Idempotency = use
	accepted, err := s.accept(r.Context(), t)
	if err != nil {
		return err
	}
	s.log.InfoContext(r.Context(), "trigger accepted", "request_id", wire.RequestID(w), "assistant_id", assistantID,
		"key_id", c.keyID, "run_id", accepted.Run.ID, "run_key", accepted.Run.Key, "replayed", accepted.Replayed)
	return writeAccepted(w, accepted)
}
