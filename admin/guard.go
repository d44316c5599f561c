package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/bridge"
	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// A finder finds the resource of a request and its assistant. It does not set the
// action. Its error is the response to a signed-in user.
type finder[T any] func(r *http.Request) (T, webtrigger.Access, error)

// guard asks the authorizer before it serves. A user who is not signed in gets 401,
// whether or not the resource exists. A user who is denied gets the 404 of a resource
// that does not exist. params are the query parameters of the call; any other is
// rejected.
func guard[T any](h *Handler, action webtrigger.Action, find finder[T],
	serve func(w http.ResponseWriter, r *http.Request, about T) error, params ...string) endpoint {
	return inTime(guardPatiently(h, action, find, serve, params...))
}

// inTime bounds a call by callTimeout.
func inTime(patient endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		return patient(w, r.WithContext(ctx))
	}
}

// guardPatiently is guard without a time limit.
func guardPatiently[T any](h *Handler, action webtrigger.Action, find finder[T],
	serve func(w http.ResponseWriter, r *http.Request, about T) error, params ...string) endpoint {
	return guarded(h, action, find, func(w http.ResponseWriter, r *http.Request, about T) error {
		if err := checkQuery(r, params); err != nil {
			return err
		}
		return serve(w, r, about)
	})
}

// guarded asks the authorizer, and leaves the query to serve.
func guarded[T any](h *Handler, action webtrigger.Action, find finder[T],
	serve func(w http.ResponseWriter, r *http.Request, about T) error) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		r = r.WithContext(bridge.WithRequest(r.Context(), wire.RequestID(w))) // for the audit log
		about, access, absent := find(r)
		access.Action = action
		if err := h.permit(r, access, absent); err != nil {
			return err
		}
		return serve(w, r, about)
	}
}

// permit asks the authorizer about a resource. absent is the error of a look-up that
// did not find it.
func (h *Handler) permit(r *http.Request, access webtrigger.Access, absent error) error {
	if absent != nil {
		access = webtrigger.Access{Action: access.Action}
	}
	err := h.authorize(r, access)
	switch {
	case errors.Is(err, webtrigger.ErrUnauthenticated):
		return webtrigger.ErrUnauthenticated
	case absent != nil:
		return absent // 404, or 503 if the store is unavailable: neither reveals the resource
	case err != nil:
		return webtrigger.ErrNotFound
	}
	return nil
}

// everything is the finder of calls that do not name an assistant.
func everything(*http.Request) (struct{}, webtrigger.Access, error) {
	return struct{}{}, webtrigger.Access{}, nil
}

// assistant returns the assistant that the path names. The library treats every valid
// id as an assistant that exists.
func (h *Handler) assistant(r *http.Request) (string, webtrigger.Access, error) {
	id := r.PathValue("id")
	if !webtrigger.ValidAssistantID(id) {
		return "", webtrigger.Access{}, webtrigger.ErrNotFound
	}
	return id, webtrigger.Access{AssistantID: id}, nil
}

func (h *Handler) key(r *http.Request) (webtrigger.Key, webtrigger.Access, error) {
	id, ok := parseID(r.PathValue("id"))
	if !ok {
		return webtrigger.Key{}, webtrigger.Access{}, webtrigger.ErrNotFound
	}
	key, err := h.svc.Key(r.Context(), id)
	return key, webtrigger.Access{AssistantID: key.AssistantID}, err
}

func (h *Handler) task(r *http.Request) (int64, webtrigger.Access, error) {
	return h.owned(r, webtrigger.ResourceTaskDefinition)
}

func (h *Handler) run(r *http.Request) (int64, webtrigger.Access, error) {
	return h.owned(r, webtrigger.ResourceRun)
}

func (h *Handler) conversation(r *http.Request) (int64, webtrigger.Access, error) {
	return h.owned(r, webtrigger.ResourceConversation)
}

func (h *Handler) delivery(r *http.Request) (int64, webtrigger.Access, error) {
	return h.owned(r, webtrigger.ResourceDelivery)
}

// owned finds a resource by the id in the path. It reads only whose the resource is:
// the rest is read for those who may see it.
func (h *Handler) owned(r *http.Request, kind webtrigger.ResourceKind) (int64, webtrigger.Access, error) {
	id, ok := parseID(r.PathValue("id"))
	if !ok {
		return 0, webtrigger.Access{}, webtrigger.ErrNotFound
	}
	owner, err := h.svc.Owner(r.Context(), kind, id)
	return id, webtrigger.Access{AssistantID: owner.AssistantID, ConversationID: owner.ConversationID}, err
}

// parseID reads an id as ids are written: a positive 64-bit decimal without a
// sign or a leading zero.
func parseID(s string) (int64, bool) { return strictjson.PositiveInt64([]byte(s)) }
