// Package logtest is for tests that read a log, or what a process prints, while it is
// still written.
package logtest

import (
	"strings"
	"sync"
)

// Buffer keeps what is written. Its zero value is empty, and its methods are safe
// for concurrent use.
type Buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
