package pgtest

import (
	"errors"
	"sync"
	"testing"

	"github.com/webtrigger-go/webtrigger/internal/needs"
)

var shared struct {
	mu     sync.Mutex
	server *Server
	err    error // of the one attempt to start it
}

// Shared returns this process's server, with the default [Options], and starts
// it on the first call. If PostgreSQL is not installed, the test is skipped
// with a message, or fails if WEBTRIGGER_TEST_ALL is set.
//
// A test that takes the server down, or changes what belongs to all databases,
// such as roles, calls [Start] instead.
//
// The server needs no stop: it ends with the process. A TestMain that
// must end it earlier calls [StopShared] after m.Run:
//
//	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { pgtest.StopShared(); os.Exit(code) }))
func Shared(tb testing.TB) *Server {
	tb.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = Start(nil)
	}
	require(tb, shared.err)
	return shared.server
}

// StopShared stops the server that Shared has started, if it has. A later call
// of Shared starts another one.
func StopShared() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server != nil {
		shared.server.Stop()
	}
	shared.server, shared.err = nil, nil
}

// Database returns the DSN of an empty database on the [Shared] server, which
// is dropped when the test ends, with all connections to it.
func Database(tb testing.TB) string {
	tb.Helper()
	s := Shared(tb)
	return s.DSN(s.Database(tb))
}

// Database is the function of the same name for a server of one's own. It
// returns the name, which suits DSN of the server and of a [PgBouncer].
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	return s.Copy(tb, "template0")
}

// Copy is Database with the contents of another database, which must have no sessions.
func (s *Server) Copy(tb testing.TB, template string) string {
	tb.Helper()
	name, err := s.CopyDatabase(template, tb.Name())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if s.stopped.Load() {
			return // and the databases with it
		}
		if err := s.DropDatabase(name); err != nil {
			tb.Error(err)
		}
	})
	return name
}

// require ends the test if err reports a missing or broken component.
func require(tb testing.TB, err error) {
	tb.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrNotInstalled):
		needs.Missing(tb, err)
	default:
		tb.Fatal(err)
	}
}
