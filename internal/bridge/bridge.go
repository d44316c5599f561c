// Package bridge gives package admin functions of the root package that are not part of
// the root's API.
package bridge

import (
	"context"
	"net/http"
)

// WriteError responds to r with err as application/problem+json.
var WriteError func(svc any, w http.ResponseWriter, r *http.Request, err error)

// WithRequest returns the context of a request whose writes are in the audit log with
// the request's id. The root package sets it when it is initialized.
var WithRequest func(ctx context.Context, requestID string) context.Context

// WithAudit returns a context whose write must be in the audit log. entry is a
// webtrigger.AuditEntry. The root package sets it when it is initialized.
var WithAudit func(ctx context.Context, entry any) context.Context

// ServeAnswer reads the answer to the request for which a run waits, from a body of at
// most maxBytes, stores it and responds with 202. by names who answers.
var ServeAnswer func(svc any, w http.ResponseWriter, r *http.Request, runID, maxBytes int64, by string) error
