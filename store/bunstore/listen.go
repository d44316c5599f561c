package bunstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun/driver/pgdriver"
)

// listenFunc is [Options.Listen].
type listenFunc = func(ctx context.Context, channel string, listening func(), notify func(payload string)) error

// listen is how notifications are received, or nil.
func (s *Store) listen() listenFunc {
	if s.opts.Listen != nil {
		return s.opts.Listen
	}
	if s.postgres && s.usesPgdriver() {
		return s.listenPgdriver
	}
	return nil
}

// usesPgdriver reports whether the database is reached by bun's own driver, not
// by another one or by one that wraps it.
func (s *Store) usesPgdriver() bool {
	_, ok := s.db.Driver().(pgdriver.Driver)
	return ok
}

// A listener proves that it hears by a ping to itself: when it begins, and
// whenever it has heard nothing for a while. A connection that died without a
// word, and a pooler that does not pass LISTEN on, do not answer. A ping is
// repeated: pgdriver's Listen returns when the statement is written, and the first
// ping may be there before it.
const (
	quiet      = 10 * time.Second       // without a word: ping
	pingAgain  = 100 * time.Millisecond // without an answer: ping again
	pingAnswer = 5 * time.Second        // without an answer since the first: lost
)

var errDeaf = errors.New("a notification to itself was not heard: the connection is dead, or a pooler in between does not pass LISTEN on")

// listenPgdriver listens with pgdriver's Listener.
func (s *Store) listenPgdriver(ctx context.Context, channel string, listening func(), notify func(payload string)) error {
	ln := pgdriver.NewListener(s.db)
	defer ln.Close()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() }) // ends a wait for the next one
	defer stop()
	if err := ln.Listen(ctx, channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	nonce, asked, begun := "", time.Time{}, false // nonce "": no answer is awaited
	ping := func() error {
		first := nonce == ""
		if first {
			nonce = uuid.NewString()
		}
		payload, _ := json.Marshal(note{Process: s.process, Ping: nonce})
		err := s.notify(ctx, string(payload))
		if first { // however long the pool was exhausted
			asked = time.Now()
		}
		return err
	}
	if err := ping(); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	for {
		timeout := quiet
		if nonce != "" {
			timeout = pingAgain
		}
		_, payload, err := ln.ReceiveTimeout(ctx, timeout)
		var timedOut net.Error
		switch {
		case err == nil:
		case !errors.As(err, &timedOut) || !timedOut.Timeout():
			return fmt.Errorf("receive: %w", err)
		case nonce != "" && time.Since(asked) > pingAnswer:
			return errDeaf
		default:
			if err := ping(); err != nil {
				return fmt.Errorf("ping: %w", err)
			}
			continue
		}
		switch n, err := decodeNote(payload); {
		case err != nil || n.Ping == "":
			notify(payload)
		case n.Ping == nonce:
			nonce = ""
			if !begun {
				begun = true
				listening()
			}
		}
	}
}
