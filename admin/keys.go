package admin

import (
	"net/http"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

type keyView struct {
	ID          int64   `json:"id"`
	AssistantID string  `json:"assistant_id"`
	Name        string  `json:"name"`
	Prefix      string  `json:"prefix"`
	CreatedAt   string  `json:"created_at"`
	ExpiresAt   *string `json:"expires_at"`
	RevokedAt   *string `json:"revoked_at"`
	LastUsedAt  *string `json:"last_used_at"`

	Scopes []webtrigger.Scope `json:"scopes"`
}

func viewKey(k webtrigger.Key) keyView {
	return keyView{
		k.ID, k.AssistantID, k.Name, k.Prefix,
		wire.FormatTime(k.CreatedAt), wire.NullableTime(k.ExpiresAt), wire.NullableTime(k.RevokedAt),
		wire.NullableTime(k.LastUsedAt), k.Scopes,
	}
}

func (h *Handler) listKeys(w http.ResponseWriter, r *http.Request, assistantID string) error {
	return h.writeKeys(w, r, readQuery(r), webtrigger.KeyQuery{AssistantID: assistantID})
}

// listAllKeys lists the keys of all assistants, or of the one that the query names.
func (h *Handler) listAllKeys(w http.ResponseWriter, r *http.Request, q *query) error {
	return h.writeKeys(w, r, q, webtrigger.KeyQuery{
		AssistantID: q.assistantID("assistant_id"), Prefix: q.keyPrefix("prefix"), Active: q.boolean("active")})
}

func (h *Handler) writeKeys(w http.ResponseWriter, r *http.Request, q *query, query webtrigger.KeyQuery) error {
	return writePage(w, q, func(page webtrigger.Page) ([]webtrigger.Key, error) {
		query.Page = page
		return h.svc.Keys(r.Context(), query)
	}, func(k webtrigger.Key) int64 { return k.ID }, viewKey)
}

func (h *Handler) getKey(w http.ResponseWriter, _ *http.Request, key webtrigger.Key) error {
	return wire.WriteJSON(w, http.StatusOK, viewKey(key))
}

// createKey responds with the plaintext, which cannot be read again.
func (h *Handler) createKey(w http.ResponseWriter, r *http.Request, assistantID string) error {
	b, err := h.readBody(w, r, "name", "expires_at", "scopes")
	if err != nil {
		return err
	}
	spec := webtrigger.KeySpec{Name: b.neededText("name"), ExpiresAt: b.givenTime("expires_at")}
	if given := b.givenTexts("scopes"); given != nil {
		spec.Scopes = make([]webtrigger.Scope, len(given)) // an empty list is a fault
		for i, scope := range given {
			spec.Scopes[i] = webtrigger.Scope(scope)
		}
	}
	if b.err() != nil {
		const noPlaintext = ""
		_, err := h.svc.ImportKey(r.Context(), assistantID, spec, noPlaintext)
		return b.errWith(err, "/key")
	}
	key, plaintext, err := h.svc.CreateKey(r.Context(), assistantID, spec)
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusCreated, newKeyView{viewKey(key), plaintext})
}

// newKeyView is an API key with its plaintext.
type newKeyView struct {
	keyView
	Key string `json:"key"`
}

// mostGrace is the maximum time for which a rotated key stays valid.
const mostGrace = 365 * 24 * time.Hour

// rotateKey responds as createKey does, and with the old key and its expiry.
func (h *Handler) rotateKey(w http.ResponseWriter, r *http.Request, old webtrigger.Key) error {
	b, err := h.readBody(w, r, "grace_period")
	if err != nil {
		return err
	}
	grace := b.neededSeconds("grace_period", mostGrace)
	if err := b.err(); err != nil {
		return err
	}
	key, secret, err := h.svc.RotateKey(r.Context(), old.ID, grace)
	if err != nil {
		return err
	}
	// An error here would lose the secret, which cannot be read again.
	if ended, err := h.svc.Key(r.Context(), old.ID); err == nil {
		old = ended
	}
	return wire.WriteJSON(w, http.StatusCreated, struct {
		newKeyView
		Replaced keyView `json:"replaced"`
	}{newKeyView{viewKey(key), secret}, viewKey(old)})
}

func (h *Handler) revokeKey(w http.ResponseWriter, r *http.Request, key webtrigger.Key) error {
	key, err := h.svc.RevokeKey(r.Context(), key.ID)
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, viewKey(key))
}
