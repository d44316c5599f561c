package admin

import (
	"net/http"
	"strconv"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

func (h *Handler) getChannel(w http.ResponseWriter, r *http.Request, assistantID string) error {
	settings, err := h.svc.Channel(r.Context(), assistantID)
	if err != nil {
		return err
	}
	return writeChannel(w, settings)
}

func (h *Handler) putChannel(w http.ResponseWriter, r *http.Request, assistantID string) error {
	b, err := h.readBody(w, r, "enabled", "allow_callback_urls")
	if err != nil {
		return err
	}
	settings := webtrigger.Channel{
		AssistantID:       assistantID,
		Enabled:           b.neededBoolean("enabled"),
		AllowCallbackURLs: b.neededBoolean("allow_callback_urls"),
	}
	if err := b.err(); err != nil {
		return err
	}
	if err := h.svc.SetChannel(r.Context(), settings); err != nil {
		return err
	}
	return writeChannel(w, settings)
}

func writeChannel(w http.ResponseWriter, c webtrigger.Channel) error {
	return wire.WriteJSON(w, http.StatusOK, struct {
		AssistantID       string `json:"assistant_id"`
		Enabled           bool   `json:"enabled"`
		AllowCallbackURLs bool   `json:"allow_callback_urls"`
	}{c.AssistantID, c.Enabled, c.AllowCallbackURLs})
}

func (h *Handler) getSecrets(w http.ResponseWriter, r *http.Request, assistantID string) error {
	return h.writeSecrets(w, r, assistantID)
}

// putSecrets replaces the secrets of an assistant. With keep_newest, the first of the
// current secrets stays, after the new ones. No response contains a secret.
func (h *Handler) putSecrets(w http.ResponseWriter, r *http.Request, assistantID string) error {
	b, err := h.readBody(w, r, "secrets", "keep_newest")
	if err != nil {
		return err
	}
	b.needed("secrets")
	texts, keep := b.givenTexts("secrets"), b.givenBoolean("keep_newest", false)
	if raw, ok := b.raw("secrets"); ok && strictjson.IsNull(raw) {
		b.fault("/secrets", "must be an array of strings")
	}
	switch most := webtrigger.MaxSigningSecrets; {
	case keep && len(texts) >= most:
		b.fault("/secrets", "must have fewer than "+strconv.Itoa(most)+" entries with keep_newest")
	case len(texts) > most:
		b.fault("/secrets", "must have at most "+strconv.Itoa(most)+" entries")
	}
	secrets := make([]webtrigger.SigningSecret, len(texts))
	for i, text := range texts {
		if secrets[i], err = webtrigger.ParseSigningSecret(text); err != nil {
			b.fault("/secrets/"+strconv.Itoa(i), "must be whsec_ and the base64 of 24 to 64 bytes")
		}
	}
	if err := b.err(); err != nil {
		return err
	}
	if keep {
		current, err := h.svc.SigningSecrets(r.Context(), assistantID)
		if err != nil {
			return err
		}
		secrets = append(secrets, current.Secrets[:min(1, len(current.Secrets))]...)
	}
	if err := h.svc.SetSigningSecrets(r.Context(), assistantID, secrets...); err != nil {
		return err
	}
	return h.writeSecrets(w, r, assistantID)
}

func (h *Handler) writeSecrets(w http.ResponseWriter, r *http.Request, assistantID string) error {
	set, err := h.svc.SigningSecrets(r.Context(), assistantID)
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		AssistantID string  `json:"assistant_id"`
		Secrets     int     `json:"secrets"`
		SetAt       *string `json:"set_at"` // null: never
	}{assistantID, len(set.Secrets), wire.NullableTime(set.SetAt)})
}

// testTrigger starts a run as a caller with an API key would.
func (h *Handler) testTrigger(w http.ResponseWriter, r *http.Request, assistantID string) error {
	h.svc.ServeTrigger(w, r, assistantID)
	return nil
}
