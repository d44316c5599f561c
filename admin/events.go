package admin

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/webtrigger-go/webtrigger"
)

// streamRun streams a run's events. The service's handler asks the authorizer itself,
// and again while the stream is open.
func (h *Handler) streamRun(w http.ResponseWriter, r *http.Request) error {
	// Before the look-up, which would reveal which runs exist.
	if err := checkQuery(r, []string{"after_event_id", "after_sequence", "run_id"}); err != nil {
		return h.permit(r, webtrigger.Access{Action: webtrigger.ActionReadEvents}, err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	runID, access, absent := h.run(r.WithContext(ctx))
	cancel() // the stream has no end in time
	if absent != nil {
		return h.permit(r, webtrigger.Access{Action: webtrigger.ActionReadEvents}, absent)
	}
	h.events.ServeHTTP(w, atStream(r, access.ConversationID, runID, readQuery(r).values))
	return nil
}

// atStream is r as the event stream's own path takes it. Cursors stay.
func atStream(r *http.Request, conversationID, runID int64, query url.Values) *http.Request {
	query.Set("run_id", strconv.FormatInt(runID, 10))
	stream := r.Clone(r.Context())
	stream.URL = &url.URL{
		Path:     "/conversations/" + strconv.FormatInt(conversationID, 10) + "/agent-events",
		RawQuery: query.Encode(),
	}
	return stream
}
