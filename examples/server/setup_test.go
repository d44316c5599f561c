package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// binary is the server under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "webtrigger-server-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "server")
	build := exec.Command("go", append(append([]string{"build"}, buildFlags...), "-o", binary, ".")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	pgtest.StopShared()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// patience is how long a test waits for what takes milliseconds.
const patience = 20 * time.Second

// output gathers what a process prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// command is the server with flags, without the settings of a model.
func command(t *testing.T, flags ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(binary, flags...)
	cmd.Dir = t.TempDir()
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "OPENAI_") || strings.HasPrefix(entry, "ANTHROPIC_")
	})
	return cmd
}

// server is a server process.
type server struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr *output
	exited         chan struct{}

	url, key, password string
	curl               string // the printed command
	secrets            []string
	client             *http.Client
}

var (
	printedURL      = regexp.MustCompile(`(?m)^\s*URL\s+(http://\S+)$`)
	printedPassword = regexp.MustCompile(`user admin, password (\S+)`)
	printedCurl     = regexp.MustCompile(`(?s)\n(curl .*?/api/v1/assistants/1/web-trigger\S*)\n`)
	printedKey      = regexp.MustCompile(`Bearer ([0-9a-f]{64})`)
)

// start starts a server and reads what it prints. It is killed at the end of the
// test, and its log must then hold no secret and no data race.
func start(t *testing.T, flags ...string) *server {
	t.Helper()
	return startWith(t, nil, flags...)
}

// startWith is start with additions to the environment.
func startWith(t *testing.T, env []string, flags ...string) *server {
	t.Helper()
	s := &server{t: t, cmd: command(t, append([]string{"-addr", "127.0.0.1:0"}, flags...)...), exited: make(chan struct{})}
	s.cmd.Env = append(s.cmd.Env, env...)
	s.stdout, s.stderr = new(output), new(output)
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, s.stderr
	s.client = &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	require.NoError(t, s.cmd.Start())
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.exited
		log := s.stderr.String()
		assert.NotContains(t, log, "DATA RACE")
		for _, secret := range s.secrets {
			assert.NotContains(t, log, secret, "a secret in the log")
		}
		if t.Failed() {
			t.Logf("stderr of the server:\n%s", log)
		}
	})
	require.Eventually(t, func() bool {
		select {
		case <-s.exited:
			return true
		default:
			return printedCurl.MatchString(s.stdout.String())
		}
	}, patience, 5*time.Millisecond)
	s.url, s.password = s.printed(printedURL), s.printed(printedPassword)
	s.curl, s.key = s.printed(printedCurl), s.printed(printedKey)
	s.secrets = append(s.secrets, s.key, s.password)
	return s
}

// in is the server with failures that are another test's.
func (s *server) in(t *testing.T) *server {
	other := *s
	other.t = t
	return &other
}

func (s *server) printed(what *regexp.Regexp) string {
	s.t.Helper()
	found := what.FindStringSubmatch(s.stdout.String())
	require.NotNil(s.t, found, "%s in:\n%s\n%s", what, s.stdout.String(), s.stderr.String())
	return found[1]
}

// response is an answer, read whole.
type response struct {
	Status int
	Header http.Header
	Body   string
}

func (r response) decode(t *testing.T) (v map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(r.Body), &v), r.Body)
	return v
}

func bearer(key string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+key) }
}

func (s *server) basic(r *http.Request) { r.SetBasicAuth("admin", s.password) }

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// open sends a request, whose target is a path or a URL. The caller closes the
// answer's body.
func (s *server) open(method, target, body string, edits ...func(*http.Request)) *http.Response {
	s.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = s.url + target
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	s.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	require.NoError(s.t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, edit := range edits {
		edit(req)
	}
	resp, err := s.client.Do(req)
	require.NoError(s.t, err)
	return resp
}

func (s *server) do(method, target, body string, edits ...func(*http.Request)) response {
	s.t.Helper()
	resp := s.open(method, target, body, edits...)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return response{resp.StatusCode, resp.Header, string(raw)}
}

// accepted is the body of a 202.
type accepted struct {
	TriggerID int64  `json:"trigger_id"`
	Status    string `json:"status"`
	StatusURL string `json:"status_url"`
	RunID     int64  `json:"run_id"`
	RunKey    string `json:"run_key"`
	EventsURL string `json:"events_url"`
}

// trigger triggers assistant 1 with a body of these fields.
func (s *server) trigger(fields map[string]any) accepted {
	s.t.Helper()
	resp := s.post(fields)
	require.Equal(s.t, http.StatusAccepted, resp.Status, resp.Body)
	return s.readAccepted(resp.Body)
}

func (s *server) readAccepted(body string) (a accepted) {
	s.t.Helper()
	require.NoError(s.t, json.Unmarshal([]byte(body), &a), body)
	require.Equal(s.t, "accepted", a.Status)
	require.Positive(s.t, a.TriggerID)
	require.True(s.t, strings.HasPrefix(a.StatusURL, s.url+"/"), a.StatusURL)
	return a
}

func (s *server) post(fields map[string]any) response {
	s.t.Helper()
	body, err := json.Marshal(fields)
	require.NoError(s.t, err)
	return s.do(http.MethodPost, "/api/v1/assistants/1/web-trigger", string(body), bearer(s.key))
}

func (s *server) say(message string) accepted {
	s.t.Helper()
	return s.trigger(map[string]any{"message": message})
}

func (s *server) status(a accepted) map[string]any {
	s.t.Helper()
	resp := s.do(http.MethodGet, a.StatusURL, "", bearer(s.key))
	require.Equal(s.t, http.StatusOK, resp.Status, resp.Body)
	return resp.decode(s.t)
}

// until polls the status until the run is in a state.
func (s *server) until(a accepted, states ...string) (status map[string]any) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		status = s.status(a)
		return slices.Contains(states, status["run_status"].(string))
	}, patience, 20*time.Millisecond)
	return status
}

func (s *server) ended(a accepted) map[string]any {
	s.t.Helper()
	return s.until(a, "completed", "failed", "cancelled", "timed_out")
}

// event is an event of a stream.
type event struct {
	ID             int64          `json:"id"`
	Type           string         `json:"event_type"`
	Sequence       int64          `json:"sequence"`
	RunID          int64          `json:"run_id"`
	RunKey         string         `json:"run_key"`
	ConversationID int64          `json:"conversation_id"`
	Payload        map[string]any `json:"payload"`
	CreatedAt      string         `json:"created_at"`
}

// readEvents reads a stream to its end.
func readEvents(t *testing.T, body io.Reader) (events []event) {
	t.Helper()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	id := ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		require.NotEqual(t, "event", field)
		switch field {
		case "id":
			id = value
		case "data":
			var e event
			require.NoError(t, json.Unmarshal([]byte(value), &e), value)
			require.Equal(t, id, fmt.Sprint(e.ID))
			events = append(events, e)
		}
	}
	require.NoError(t, lines.Err(), "the server ends the stream, not a fault")
	return events
}

// events reads a run's stream to its end and checks what holds for all: no hole,
// and one terminal event, the last.
func (s *server) events(a accepted) []event {
	s.t.Helper()
	resp := s.open(http.MethodGet, a.EventsURL, "", s.basic)
	defer resp.Body.Close()
	require.Equal(s.t, http.StatusOK, resp.StatusCode)
	require.Contains(s.t, resp.Header.Get("Content-Type"), "text/event-stream")
	events := readEvents(s.t, resp.Body)
	require.NotEmpty(s.t, events)
	terminal := 0
	for i, e := range events {
		require.EqualValues(s.t, i+1, e.Sequence)
		require.Equal(s.t, a.RunID, e.RunID)
		require.Equal(s.t, a.RunKey, e.RunKey)
		require.Equal(s.t, a.TriggerID, e.ConversationID)
		if slices.Contains([]string{"run_completed", "run_failed", "run_cancelled", "run_timed_out"}, e.Type) {
			terminal++
			require.Equal(s.t, len(events)-1, i, "nothing follows the terminal event")
		}
	}
	require.Equal(s.t, 1, terminal)
	return events
}

func types(events []event) (types []string) {
	for _, e := range events {
		types = append(types, e.Type)
	}
	return types
}
