// Package wire holds how things look on the wire, once for every handler:
// times, texts, JSON, request ids, request bodies and problem+json errors.
package wire
