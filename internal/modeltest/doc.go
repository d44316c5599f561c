// Package modeltest has fake servers of the vendors of language models, for
// tests: they speak the vendors' wire formats, refuse what the vendors refuse, and
// fail in the ways that the vendors and the networks before them do. What they
// know comes from the vendors' public API descriptions.
package modeltest

import "github.com/webtrigger-go/webtrigger/internal/memnet"

// NewNetwork returns a network in memory for a fake server.
func NewNetwork() *memnet.Network { return memnet.New() }
