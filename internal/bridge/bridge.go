// Package bridge gives package admin a function of the root package that is not part
// of the root's API.
package bridge

import "net/http"

// WriteError responds to r with err as application/problem+json. svc is a
// *webtrigger.Service. The root package sets it when it is initialized.
var WriteError func(svc any, w http.ResponseWriter, r *http.Request, err error)
