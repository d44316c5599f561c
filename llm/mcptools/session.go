package mcptools

import (
	"context"
	"errors"
	"log/slog"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

var errClosed = errors.New("the connection was closed")

// sessions holds the one session with a server, and opens another when it is
// lost.
type sessions struct {
	dialer Dialer
	client *sdk.Client
	log    *slog.Logger

	// turn is held by whoever looks at what follows or connects. It is a channel, not
	// a mutex: one may stop waiting for it.
	turn   chan struct{}
	now    *session // nil: none yet
	closed bool
}

// session is an open session, until lost is closed.
type session struct {
	*sdk.ClientSession
	lost chan struct{} // the session has ended and what it held is released
}

func (s *sessions) init(dialer Dialer, log *slog.Logger) {
	s.dialer, s.log, s.turn = dialer, log, make(chan struct{}, 1)
	s.client = sdk.NewClient(&sdk.Implementation{Name: "webtrigger", Version: "1"}, &sdk.ClientOptions{
		Logger:       log,
		Capabilities: &sdk.ClientCapabilities{}, // a run has nobody who could be asked, and shows no files
		// A server that wants input gets none; said tells so.
		MultiRoundTrip: &sdk.MultiRoundTripOptions{Disabled: true},
	})
}

// current returns the session, which is opened when there is none.
func (s *sessions) current(ctx context.Context) (*session, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.turn }()
	switch {
	case s.closed:
		return nil, errClosed
	case s.now != nil && !s.now.isLost():
		return s.now, nil
	case s.now != nil:
		s.log.Info("MCP session is opened again")
	}
	transport, err := s.dialer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	opened, err := s.client.Connect(ctx, transport, nil)
	if err != nil {
		return nil, err
	}
	s.now = &session{ClientSession: opened, lost: make(chan struct{})}
	go s.watch(s.now)
	return s.now, nil
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
// process at its other end.
func (s *sessions) watch(one *session) {
	err := one.Wait()
	s.log.Info("MCP session ended", "error", err)
	close(one.lost)
	_ = one.Close()
}

// drop ends a session that is of no use any more.
func (s *sessions) drop(one *session) {
	_ = one.Close()
	<-one.lost
}

func (s *sessions) close() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.now == nil {
		return nil
	}
	err := s.now.Close()
	<-s.now.lost
	return err
}
