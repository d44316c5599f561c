package bunstore

import (
	"context"
	"fmt"

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

// listenPgdriver listens with pgdriver's Listener.
func (s *Store) listenPgdriver(ctx context.Context, channel string, listening func(), notify func(payload string)) error {
	ln := pgdriver.NewListener(s.db)
	defer ln.Close()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() }) // ends a wait for the next one
	defer stop()
	if err := ln.Listen(ctx, channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	listening()
	for {
		_, payload, err := ln.Receive(ctx)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		notify(payload)
	}
}
