package webtrigger

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// WriteError answers r with err as application/problem+json (RFC 9457): the one
// place where errors become statuses, for this package and the handlers that
// stand on it. An error that it does not know is logged with the request id and
// shown as a bare 500; nothing internal reaches the client.
func (s *Service) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, r.Context().Err()) {
		return // the client has gone
	}
	s.problem(w, r, err).Write(w)
}

func (s *Service) problem(w http.ResponseWriter, r *http.Request, err error) *wire.Problem {
	var (
		known   *wire.Problem
		request *RequestError
		syntax  *strictjson.SyntaxError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &syntax):
		return wire.BadRequest("malformed_json", syntax.Detail)
	case errors.As(err, &request):
		list := make([]wire.FieldError, len(request.Faults))
		for i, f := range request.Faults {
			list[i] = wire.FieldError(f)
		}
		return wire.Unprocessable(list)
	case errors.Is(err, ErrNotFound):
		return wire.NotFound()
	case errors.Is(err, ErrConflict):
		return &wire.Problem{Status: http.StatusConflict, Code: "conflict",
			Detail: "That is not possible in the state that the thing is in."}
	case errors.Is(err, ErrChannelDisabled):
		return &wire.Problem{Status: http.StatusForbidden, Code: "channel_disabled",
			Detail: "This assistant does not accept web triggers."}
	case errors.Is(err, ErrIdempotencyKeyReused):
		return &wire.Problem{Status: http.StatusUnprocessableEntity, Code: "idempotency_key_reused",
			Detail: "This Idempotency-Key was used for another request body."}
	case errors.Is(err, ErrQueueFull):
		return queueFull(s.opts.Limits.QueuedPerAssistant)
	case errors.Is(err, ErrUnauthenticated):
		return &wire.Problem{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: "Sign in first."}
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		s.log.WarnContext(r.Context(), "store unavailable", "request_id", wire.RequestID(w), "error", err)
		return &wire.Problem{Status: http.StatusServiceUnavailable, Code: "unavailable",
			Detail: "The service cannot answer now. Try again later.", RetryAfter: time.Second}
	}
	s.log.ErrorContext(r.Context(), "request failed", "request_id", wire.RequestID(w),
		"method", r.Method, "path", r.URL.Path, "error", err)
	return &wire.Problem{Status: http.StatusInternalServerError, Code: "internal_error",
		Detail: "Something went wrong here. The request id leads to the log."}
}
