// Package wire defines the wire format for every handler: times, texts, JSON, request
// ids, request bodies and problem+json errors.
package wire
