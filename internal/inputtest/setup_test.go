package inputtest

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/replicas"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		pgtest.StopShared()
		os.Exit(code)
	}))
}

// patience is the maximum time of what must happen soon, on a loaded machine.
const patience = time.Minute

// doors hold calls of a store at its entrance, by method.
type doors struct {
	mu   sync.Mutex
	shut map[string]*door
}

// door holds calls until it is opened.
type door struct {
	arrived atomic.Int64
	open    chan struct{}
}

// close makes the next calls of a method wait.
func (d *doors) close(method string) *door {
	shut := &door{open: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut == nil {
		d.shut = make(map[string]*door)
	}
	d.shut[method] = shut
	return shut
}

// pass waits at the door of a method, if it has one.
func (d *doors) pass(ctx context.Context, method string) {
	d.mu.Lock()
	door := d.shut[method]
	d.mu.Unlock()
	if door == nil {
		return
	}
	door.arrived.Add(1)
	select {
	case <-door.open:
	case <-ctx.Done():
	}
}

// holds waits until n calls have arrived.
func (d *door) holds(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() bool { return d.arrived.Load() >= int64(n) })
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, 10*time.Millisecond)
}

// site is replicas on one Postgres, whose Runner asks, and a receiver of callbacks.
type site struct {
	t      *testing.T
	dsn    string
	roots  *x509.CertPool
	hook   string                          // the URL of the receiver
	secret string                          // an API key with all scopes
	ask    webtrigger.InputRequest         // what the Runner asks
	then   func(ctx context.Context) error // what the Runner does with the answer; nil: nothing. Set before start

	unavailable atomic.Int64 // responses with 503

	mu    sync.Mutex
	posts map[string]int     // callbacks, by run key
	calls map[int64]int      // calls of the Runner, by run
	got   map[int64][]string // answers that the Runner got, by run
}

// process is one replica of a site.
type process struct {
	*replicas.Replica
	doors doors
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dsn: schemas.Database(t), ask: webtrigger.InputRequest{Question: "Which?"},
		posts: make(map[string]int), calls: make(map[int64]int), got: make(map[int64][]string)}
	receiver := httptest.NewUnstartedServer(http.HandlerFunc(s.receive))
	receiver.Config.ErrorLog = log.New(io.Discard, "", 0)
	receiver.StartTLS()
	t.Cleanup(receiver.Close)
	s.roots = x509.NewCertPool()
	s.roots.AddCert(receiver.Certificate())
	s.hook = receiver.URL
	return s
}

func (s *site) receive(w http.ResponseWriter, r *http.Request) {
	var body struct {
		RunKey string `json:"run_key"`
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posts[body.RunKey]++
}

// run is the Runner.
func (s *site) run(ctx context.Context, task *webtrigger.Task, dead <-chan struct{}) (*webtrigger.Result, error) {
	s.mu.Lock()
	s.calls[task.Run.ID]++
	s.mu.Unlock()
	answer, err := webtrigger.AskInput(ctx, task, s.ask)
	if err != nil {
		return nil, err
	}
	text := answer.Text() + string(answer.Decision)
	s.mu.Lock()
	s.got[task.Run.ID] = append(s.got[task.Run.ID], text)
	s.mu.Unlock()
	if s.then != nil {
		if err := s.then(ctx); err != nil {
			return nil, err
		}
	}
	return &webtrigger.Result{Text: text}, nil
}

// start starts a replica. with changes its options, and may be nil.
func (s *site) start(with func(*webtrigger.Options)) *process {
	s.t.Helper()
	p := &process{}
	p.Replica = replicas.Start(s.t, replicas.Config{DSN: s.dsn, Run: s.run,
		Options: func(o *webtrigger.Options) {
			o.Callback.RootCAs = s.roots
			if with != nil {
				with(o)
			}
		},
		Call: func(ctx context.Context, method string, do func(ctx context.Context) error) error {
			p.doors.pass(ctx, method)
			err := do(ctx)
			p.doors.pass(ctx, "after "+method)
			return err
		},
	})
	if s.secret == "" {
		_, secret, err := p.CreateKey(s.t.Context(), "1", webtrigger.KeySpec{Name: "all", Scopes: webtrigger.AllScopes()})
		require.NoError(s.t, err)
		s.secret = secret
	}
	return p
}

// waits triggers a run and returns it, with its request, when it waits.
func (s *site) waits(p *process) webtrigger.Input {
	s.t.Helper()
	run := s.trigger(p)
	s.status(p, run.ID, webtrigger.RunWaiting)
	inputs, err := p.Store.Inputs(s.t.Context(), run.ID)
	require.NoError(s.t, err)
	require.Len(s.t, inputs, 1)
	deliveries, err := p.Store.Deliveries(s.t.Context(), run.ID)
	require.NoError(s.t, err)
	require.Empty(s.t, deliveries, "a waiting run sends no callback")
	return inputs[0]
}

func (s *site) trigger(p *process) webtrigger.Run {
	s.t.Helper()
	run, err := p.Trigger(s.t.Context(), "1", webtrigger.TriggerRequest{Message: "go", CallbackURL: s.hook})
	require.NoError(s.t, err)
	return run
}

// status waits until a run has a status.
func (s *site) status(p *process, runID int64, status ...webtrigger.RunStatus) webtrigger.Run {
	s.t.Helper()
	var run webtrigger.Run
	var err error
	eventually(s.t, func() bool {
		run, err = p.Store.RunByID(s.t.Context(), runID)
		return err != nil || slices.Contains(status, run.Status)
	})
	require.NoError(s.t, err)
	return run
}

// post sends a request and returns the status of the response and the code of its problem,
// or its status member.
func (s *site) post(p *process, runID int64, action, body string) string {
	r := httptest.NewRequest(http.MethodPost, fmt.Sprintf("/api/v1/web-triggers/%d/%s", runID, action), strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+s.secret)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	var answer struct {
		Code      string
		Status    any
		RunStatus string `json:"run_status"`
	}
	_ = json.Unmarshal(w.Body.Bytes(), &answer)
	switch {
	case answer.Code != "":
		return fmt.Sprint(w.Code, " ", answer.Code)
	case answer.RunStatus != "":
		return fmt.Sprint(w.Code, " ", answer.RunStatus)
	}
	return fmt.Sprint(w.Code, " ", answer.Status)
}

// The responses to answers and cancellations.
const (
	accepted        = "202 input_received"
	alreadyAnswered = "409 already_answered"
	inputClosed     = "410 input_closed"
	cancelRequested = "202 cancel_requested"
	cancelled       = "200 cancelled"
	completed       = "200 completed"
)

// answer answers with a text by a replica. As a client does, it repeats the request while
// the service is unavailable.
func (s *site) answer(p *process, input webtrigger.Input, text string) string {
	return s.send(p, input, fmt.Sprintf(`{"request_id": %d, "answer": %q}`, input.ID, text))
}

// decide decides about an approval.
func (s *site) decide(p *process, input webtrigger.Input, decision webtrigger.Decision) string {
	return s.send(p, input, fmt.Sprintf(`{"request_id": %d, "decision": %q}`, input.ID, decision))
}

func (s *site) send(p *process, input webtrigger.Input, body string) string {
	for {
		answer := s.post(p, input.RunID, "input", body)
		if !strings.HasPrefix(answer, "503 ") {
			return answer
		}
		s.unavailable.Add(1)
		time.Sleep(50 * time.Millisecond)
	}
}

// later calls do in a goroutine.
func later(do func() string) <-chan string {
	answer := make(chan string, 1)
	go func() { answer <- do() }()
	return answer
}

// ends waits for the end of a run and asserts that it has one terminal event, one
// callback, and the given number of answers. It returns the run.
func (s *site) ends(p *process, runID int64, answers int) webtrigger.Run {
	s.t.Helper()
	run := s.status(p, runID, webtrigger.RunCompleted, webtrigger.RunFailed, webtrigger.RunCancelled, webtrigger.RunTimedOut)
	page, err := p.Store.Events(s.t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 100})
	require.NoError(s.t, err)
	ends, received := 0, 0
	for _, e := range page.Events {
		if e.Type.Terminal() {
			ends++
		}
		if e.Type == webtrigger.EventInputReceived {
			received++
		}
	}
	require.Equal(s.t, 1, ends, "terminal events")
	require.Equal(s.t, answers, received, "answers")
	inputs, err := p.Store.Inputs(s.t.Context(), runID)
	require.NoError(s.t, err)
	require.Len(s.t, inputs, 1)
	require.Equal(s.t, answers == 1, inputs[0].Answer != nil)
	deliveries, err := p.Store.Deliveries(s.t.Context(), run.ID)
	require.NoError(s.t, err)
	require.Len(s.t, deliveries, 1)
	eventually(s.t, func() bool { return s.callbacks(run.Key) > 0 })
	require.Equal(s.t, 1, s.callbacks(run.Key), "callbacks")
	return run
}

func (s *site) callbacks(runKey string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.posts[runKey]
}

// resumed asserts how often the Runner was called and which answers it got.
func (s *site) resumed(runID int64, calls int, answers ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Equal(s.t, calls, s.calls[runID], "calls of the Runner")
	require.Equal(s.t, answers, s.got[runID], "answers that the Runner got")
}
