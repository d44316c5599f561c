package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	evaluation "github.com/webtrigger-go/webtrigger/examples/server"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/servertest"
)

// asServer makes this test program the server. The program contains the server, so
// no other program must be linked.
const asServer = "WEBTRIGGER_TEST_AS_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		evaluation.Main()
		return
	}
	code := m.Run()
	pgtest.StopShared()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// patience is how long a test waits for what takes milliseconds.
const patience = 20 * time.Second

// command is the server with flags, without the settings of a model.
func command(t *testing.T, flags ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := servertest.Command(t, program, flags...)
	cmd.Env = append(cmd.Env, asServer+"=1")
	return cmd
}

// server is a server process.
type server struct {
	*servertest.Process
	t *testing.T

	url, key, password string
	curl               string // the printed command
	hush               *secrets
	client             *http.Client
}

// secrets must not be in a log.
type secrets struct {
	mu  sync.Mutex
	all []string
}

func (s *secrets) add(more ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, more...)
}

var (
	printedPassword = regexp.MustCompile(`user admin, password (\S+)`)
	printedCurl     = regexp.MustCompile(`(?s)\n(curl .*?/api/v1/assistants/1/web-trigger\S*)\n`)
	printedKey      = regexp.MustCompile(`Bearer ([0-9a-f]{64})`)
)

// start starts a server. By default it keeps everything in memory; flags may change
// that.
func start(t *testing.T, flags ...string) *server {
	t.Helper()
	return startWith(t, nil, append([]string{"-db", "memory"}, flags...)...)
}

// startWith starts a server with additions to the environment and reads what it
// prints. It is killed at the end of the test. Its log must then have no secret and no
// data race.
func startWith(t *testing.T, env []string, flags ...string) *server {
	t.Helper()
	return startIn(t, "", env, flags...)
}

// startIn is startWith in a directory. If dir is "", the server has its own.
func startIn(t *testing.T, dir string, env []string, flags ...string) *server {
	t.Helper()
	s := &server{t: t, hush: new(secrets), client: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	t.Cleanup(func() { // when the process has ended
		for _, secret := range s.hush.all {
			assert.NotContains(t, s.Stderr.String(), secret, "a secret in the log")
		}
	})
	cmd := command(t, append([]string{"-addr", "127.0.0.1:0"}, flags...)...)
	cmd.Env = append(cmd.Env, env...)
	if dir != "" {
		cmd.Dir = dir
	}
	s.Process = servertest.Start(t, cmd)
	s.curl, s.url = s.Printed(t, printedCurl), s.URL(t)
	s.password, s.key = s.Printed(t, printedPassword), s.Printed(t, printedKey)
	s.hush.add(s.key, s.password)
	return s
}

// in returns the server for a subtest, which its failures then end.
func (s *server) in(t *testing.T) *server {
	other := *s
	other.t = t
	return &other
}

// response is a response with its whole body.
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
// body of the response.
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
	require.NoError(t, lines.Err(), "the server must end the stream without an error")
	return events
}

// events reads a run's stream to its end. The stream must have no gap and one terminal
// event, its last.
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
			require.Equal(s.t, len(events)-1, i, "no event may follow the terminal event")
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
