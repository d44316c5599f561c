// Package openapi holds the service against its OpenAPI document: every
// request and answer of the wire transcripts, live traffic, the callback and the
// frames of the event stream; lints the document; and drives a service with a client
// that is generated from it.
package openapi
