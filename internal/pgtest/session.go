package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// A session is a psql that stays connected, for statements that tests need all the
// time: a program and a connection for each of them would take longer than the
// statement. Like a daemon, it has no goroutine. It ends with this process.
type session struct {
	mu  sync.Mutex // one statement at a time
	cmd *exec.Cmd  // nil: not started, or lost its connection
	in  io.WriteCloser
	out *bufio.Reader
}

// errNoSession reports that a statement must be run in another way.
var errNoSession = errors.New("the session has ended")

// answered follows the answer of each statement.
const answered = "pgtest: answered"

// exec runs one statement that has no rows.
func (s *session) exec(bin, dsn, sql string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		if err := s.start(bin, dsn); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(s.in, sql+";\n\\echo "+answered+"\n"); err != nil {
		s.end()
		return errNoSession
	}
	var said strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		switch {
		case err != nil:
			s.end()
			return errNoSession
		case line != answered+"\n":
			said.WriteString(line)
		case said.Len() > 0:
			return fmt.Errorf("pgtest: psql: %s", strings.TrimSpace(said.String()))
		default:
			return nil
		}
	}
}

func (s *session) start(bin, dsn string) error {
	cmd := exec.Command(filepath.Join(bin, "psql"), "-X", "-q", "-A", "-t", "-d", dsn)
	cmd.Env = append(environ(), "PGCLIENTENCODING=UTF8", "PGOPTIONS=-c client_min_messages=warning")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout // in the order in which psql writes
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.in, s.out = cmd, in, bufio.NewReader(out)
	return nil
}

// end ends the program, if it runs.
func (s *session) end() {
	if s.cmd != nil {
		s.in.Close()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
}
