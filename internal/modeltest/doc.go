// Package modeltest has fake servers of the vendors of language models, for
// tests. They use the vendors' wire formats, reject the requests that the vendors
// reject, and fail in the ways of the vendors and the networks before them. They
// follow the vendors' public API descriptions.
package modeltest

import "github.com/webtrigger-go/webtrigger/internal/memnet"

// NewNetwork returns a network in memory for a fake server.
func NewNetwork() *memnet.Network { return memnet.New() }
