package mcptools

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

var errClosed = errors.New("server was closed")

// sessions holds the session with a server, and opens another one if it is lost.
type sessions struct {
	dialer Dialer
	client *sdk.Client
	log    *slog.Logger
	notes  *notes

	// ended ends when the Server is closed.
	ended context.Context
	end   context.CancelFunc

	// turn guards what follows and is held while a session connects. It is a channel,
	// not a mutex, so that a call stops waiting for it when its context ends.
	turn     chan struct{}
	now      *session // nil: none
	opened   bool     // a session was opened before
	closed   bool
	watchers sync.WaitGroup
}

// session is an open session, until lost is closed.
type session struct {
	*sdk.ClientSession
	lost chan struct{} // the session has ended and has released what it held
}

func (s *sessions) init(dialer Dialer, log *slog.Logger) {
	s.dialer, s.log, s.notes, s.turn = dialer, log, newNotes(log), make(chan struct{}, 1)
	s.ended, s.end = context.WithCancel(context.Background())
	s.client = sdk.NewClient(&sdk.Implementation{Name: "webtrigger", Version: "1"}, &sdk.ClientOptions{
		// The SDK logs each oddity of each message. The filter logs them once.
		Logger:       discard,
		Capabilities: &sdk.ClientCapabilities{}, // a run has no person to ask, and shows no files
		// A server that requests input gets none, and textOf returns an error.
		MultiRoundTrip: &sdk.MultiRoundTripOptions{Disabled: true},
	})
}

// until returns a context that also ends when the Server is closed.
func (s *sessions) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ended, cancel)
	return ctx, func() { stop(); cancel() }
}

// current returns the session. If there is none, or it is lost, or it is bad,
// current opens one.
func (s *sessions) current(ctx context.Context, bad *session) (*session, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.turn }()
	if s.now != nil && s.now == bad {
		s.drop()
	}
	switch {
	case s.closed:
		return nil, errClosed
	case s.now != nil && !s.now.isLost():
		return s.now, nil
	}
	transport, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	opened, err := s.client.Connect(ctx, transport, nil)
	if err != nil {
		return nil, err
	}
	if s.opened {
		s.log.Info("MCP session reopened")
	}
	s.opened = true
	s.now = &session{ClientSession: opened, lost: make(chan struct{})}
	one := s.now
	s.watchers.Go(func() { s.watch(one) })
	return s.now, nil
}

func (s *sessions) dial(ctx context.Context) (sdk.Transport, error) {
	if dialer, ok := s.dialer.(notingDialer); ok {
		return dialer.dial(s.notes)
	}
	return s.dialer.Dial(ctx)
}

func (s *session) isLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

// watch waits for the end of a session and releases what it held, such as the
// process of a Command.
func (s *sessions) watch(one *session) {
	err := one.Wait()
	s.log.Info("MCP session ended", "error", plain(err))
	close(one.lost)
	_ = one.Close()
}

// drop closes the session, which the next call replaces. Other calls that use it
// may end first.
func (s *sessions) drop() {
	one := s.now
	s.now = nil
	s.watchers.Go(func() { _ = one.Close() })
}

// retire drops a session that may be lost, if it is still the current one.
func (s *sessions) retire(bad *session) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.now == bad && !s.closed {
		s.drop()
	}
}

func (s *sessions) close() (err error) {
	s.end()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if !s.closed {
		s.closed = true
		if s.now != nil {
			err = s.now.Close()
		}
	}
	s.watchers.Wait()
	return err
}
