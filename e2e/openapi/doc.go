// Package openapi holds the service against its OpenAPI document: every
// request and answer of the wire transcripts, live traffic, the callback and the
// frames of the event stream; and lints the document.
package openapi
