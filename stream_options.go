package webtrigger

import (
	"errors"
	"fmt"
	"time"
)

// StreamOptions bounds what event streams take of a process.
type StreamOptions struct {
	// MemoryBytes bounds the encoded events that this process keeps, for all
	// watched conversations together, so that their readers share them. 0: 64
	// MiB. Readers of what is not kept read the store. It is not the memory of the
	// connections themselves.
	MemoryBytes int

	// PerKey is how many streams an API key may have open at a time in this
	// process; one more is answered with 429. 0: 100. Negative: no limit.
	PerKey int

	// WriteTimeout is how long a reader may take for what is written to it in one
	// go, about 32 KiB, before it is cut off. 0: 10 s, which is also the most.
	WriteTimeout time.Duration
}

const (
	maxStreamWrite     = 10 * time.Second
	defaultKeyStreams  = 100
	defaultStreamBytes = 64 << 20
)

// complete checks o and puts the defaults where it is zero.
func (o *StreamOptions) complete() error {
	if o.MemoryBytes < 0 || o.WriteTimeout < 0 {
		return errors.New("Streams.MemoryBytes and Streams.WriteTimeout must not be negative")
	}
	if o.WriteTimeout > maxStreamWrite {
		return fmt.Errorf("Streams.WriteTimeout must be at most %v", maxStreamWrite)
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = defaultStreamBytes
	}
	if o.PerKey == 0 {
		o.PerKey = defaultKeyStreams
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = maxStreamWrite
	}
	return nil
}
