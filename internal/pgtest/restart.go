package pgtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Mode is how a server stops.
type Mode int

const (
	// Fast rolls back what is open, ends the sessions and writes a checkpoint,
	// like `pg_ctl stop -m fast`.
	Fast Mode = iota

	// Immediate leaves at once, like a crash of the program: the next start
	// recovers from the log. Commits of the last moments are lost unless
	// Options.Durable is set.
	Immediate
)

// Restart takes the server down and up again, with the same port and data.
func (s *Server) Restart(mode Mode) error {
	if err := s.Down(mode); err != nil {
		return err
	}
	return s.Up()
}

// Down ends the server and returns after it has ended. Until Up, the system rejects
// connections. If the server is down already, Down does nothing.
func (s *Server) Down(mode Mode) error {
	signal := "INT"
	if mode == Immediate {
		signal = "QUIT"
	}
	if err := s.daemon.stop(signal); err != nil {
		return fmt.Errorf("pgtest: stopping PostgreSQL: %w", err)
	}
	return nil
}

// Up starts the server after Down and returns once it accepts connections. If
// another process has taken its port meanwhile, that is an error.
func (s *Server) Up() error {
	logged := s.daemon.logSize()
	err := s.daemon.start(filepath.Join(s.bin, "postgres"), "-D", s.data(),
		"-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-k", s.daemon.dir)
	if err == nil {
		err = s.daemon.waitFor(s.ready)
	}
	if errors.Is(err, errEnded) && strings.Contains(s.daemon.logFrom(logged), "could not create any TCP/IP sockets") {
		err = errPortTaken
	}
	if err != nil {
		return fmt.Errorf("pgtest: starting PostgreSQL: %w", err)
	}
	return nil
}

// ready reports whether the server is ready by its lock file, which pg_ctl reads too. A crash leaves the file behind, but Down waits for an
// orderly exit, which removes it.
func (s *Server) ready() bool { return s.lockLine(7) == "ready" }

// lockLine returns a line of the lock file, or "" if the file has no such line.
func (s *Server) lockLine(n int) string {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return ""
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) <= n {
		return ""
	}
	return strings.TrimSpace(lines[n])
}

// errPortTaken is the answer of a program that cannot listen.
var errPortTaken = errors.New("the port is taken")

// pollInterval is how often a program is asked whether it is ready.
const pollInterval = 5 * time.Millisecond
