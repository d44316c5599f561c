package child

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Process is a running child, seen from its parent.
type Process struct {
	Addr string // of the measured listener, host:port

	cmd     *exec.Cmd
	stdin   io.Closer
	control string
}

// Start starts a child of the kind name and returns when it serves. config is
// handed over as JSON.
func Start(name string, config any) (*Process, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, verb, name, string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &p.control, &p.Addr)
	}
	if err != nil {
		p.Stop()
		return nil, fmt.Errorf("child %s did not start: %w", name, err)
	}
	return p, nil
}

// Stop kills the child, which has nothing to clean up, and waits for its end.
func (p *Process) Stop() {
	_ = p.cmd.Process.Kill()
	_ = p.stdin.Close()
	_ = p.cmd.Wait()
}

// CPU returns the processor time that the child has used. ok is false if the system
// does not report it.
func (p *Process) CPU() (used time.Duration, ok bool) {
	stat, ok := readStat(p.cmd.Process.Pid)
	return stat.own, ok
}

// Counters asks for the child's counters.
func (p *Process) Counters() (Counters, error) { return p.ask(http.MethodGet, "/counters") }

// Do has the child do n pieces of its work.
func (p *Process) Do(n int) (Counters, error) {
	return p.ask(http.MethodPost, fmt.Sprintf("/do?n=%d", n))
}

// Memory returns the child's resident memory in bytes, after the child has released
// unused memory.
func (p *Process) Memory() (float64, error) {
	c, err := p.ask(http.MethodGet, "/memory")
	if err == nil && c["rss"] == 0 {
		err = errors.New("this system does not report resident memory")
	}
	return c["rss"], err
}

// StartProfile begins a CPU profile of the child.
func (p *Process) StartProfile() error {
	_, err := p.ask(http.MethodPost, "/profile")
	return err
}

// StopProfile ends the profile and writes it to a file.
func (p *Process) StopProfile(file string) error {
	body, err := p.request(http.MethodGet, "/profile")
	if err != nil {
		return err
	}
	return os.WriteFile(file, body, 0o644)
}

func (p *Process) ask(method, path string) (c Counters, err error) {
	body, err := p.request(method, path)
	if err != nil {
		return nil, err
	}
	return c, json.Unmarshal(body, &c)
}

func (p *Process) request(method, path string) ([]byte, error) {
	req, err := http.NewRequest(method, "http://"+p.control+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("child: %s", strings.TrimSpace(string(body)))
	}
	return body, err
}
