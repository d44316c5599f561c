package admin

import (
	"net/http"

	"github.com/webtrigger-go/webtrigger"
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

// testTrigger starts a run as a caller with an API key would.
func (h *Handler) testTrigger(w http.ResponseWriter, r *http.Request, assistantID string) error {
	h.svc.ServeTrigger(w, r, assistantID)
	return nil
}
