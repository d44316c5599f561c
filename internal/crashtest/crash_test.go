//go:build unix

package crashtest_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/runcheck"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/internal/servertest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

func TestMain(m *testing.M) {
	if os.Getenv(envDatabase) != "" {
		if err := replica(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	pgtest.StopShared()
	os.Exit(code)
}

const patience = 60 * time.Second

// process is a replica.
type process struct {
	*servertest.Process
	url string
}

// rig is a database, a receiver of callbacks, and the acknowledged triggers.
type rig struct {
	t        *testing.T
	database string
	roots    string
	store    *bunstore.Store
	close    func()
	receiver *httptest.Server
	key      string
	attempts int           // of a run
	lease    time.Duration // of a replica

	mu       sync.Mutex
	midPost  func()           // called once, while the receiver has a POST and has not answered
	accepted map[int64]string // run id → run key of each 202
	posts    map[string]int   // run key → POSTs
}

func newRig(t *testing.T, database string) *rig {
	r := &rig{t: t, database: database, accepted: make(map[int64]string), posts: make(map[string]int), key: strings.Repeat("c4", 32), attempts: 1, lease: lease}
	r.receiver = httptest.NewUnstartedServer(http.HandlerFunc(r.receive))
	r.receiver.Config.ErrorLog = log.New(io.Discard, "", 0) // replicas die in mid-handshake
	r.receiver.StartTLS()
	t.Cleanup(r.receiver.Close)
	r.roots = filepath.Join(t.TempDir(), "roots.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: r.receiver.Certificate().Raw}
	require.NoError(t, os.WriteFile(r.roots, pem.EncodeToMemory(block), 0o600))
	r.open()
	require.NoError(t, r.store.Migrate(t.Context()))
	svc := r.service()
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	_, err := svc.ImportKey(t.Context(), "1", webtrigger.KeySpec{Name: "crash", Scopes: webtrigger.AllScopes()}, r.key)
	require.NoError(t, err)
	return r
}

func (r *rig) open() {
	db, err := openDatabase(r.database)
	require.NoError(r.t, err)
	r.store, err = bunstore.New(db, nil)
	require.NoError(r.t, err)
	r.close = sync.OnceFunc(func() {
		assert.NoError(r.t, r.store.Close())
		assert.NoError(r.t, db.Close())
	})
	r.t.Cleanup(func() { r.close() })
}

func (r *rig) service() *webtrigger.Service {
	svc, err := webtrigger.New(r.store, nil, &webtrigger.Options{NoWorkers: true})
	require.NoError(r.t, err)
	return svc
}

func (r *rig) receive(w http.ResponseWriter, req *http.Request) {
	var body struct {
		RunKey string `json:"run_key"`
	}
	raw, err := io.ReadAll(req.Body)
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	r.mu.Lock()
	if err == nil {
		r.posts[body.RunKey]++
	}
	midPost := r.midPost
	r.midPost = nil
	r.mu.Unlock()
	if midPost != nil {
		midPost()
	}
	w.WriteHeader(http.StatusNoContent)
}

// start starts a replica, which kills itself at a point ("": nowhere).
func (r *rig) start(point string) *process {
	r.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envDatabase+"="+r.database, envAttempts+"="+strconv.Itoa(r.attempts), envLease+"="+r.lease.String(), envPoint+"="+point, envRoots+"="+r.roots)
	p := servertest.Start(r.t, cmd)
	return &process{p, p.Printed(r.t, printedURL)}
}

var printedURL = regexp.MustCompile(`(?m)^(http://\S+)$`)

var client = &http.Client{Timeout: 10 * time.Second}

// trigger sends a trigger and notes a 202. A replica that is killed sends no response.
func (r *rig) trigger(p *process) bool { return r.send(p, "work") != 0 }

// send is trigger with a message. It returns the run's id, or 0.
func (r *rig) send(p *process, message string) int64 {
	body := fmt.Sprintf(`{"message": %q, "callback_url": %q}`, message, r.receiver.URL+"/")
	req, err := http.NewRequest(http.MethodPost, p.url+"/api/v1/assistants/1/web-trigger", strings.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+r.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var a struct {
		RunID  int64  `json:"run_id"`
		RunKey string `json:"run_key"`
	}
	if resp.StatusCode != http.StatusAccepted || json.NewDecoder(resp.Body).Decode(&a) != nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accepted[a.RunID] = a.RunKey
	return a.RunID
}

// runs are all runs of the store.
func (r *rig) runs() []webtrigger.Run {
	r.t.Helper()
	all, err := runcheck.All(r.t.Context(), r.service(), webtrigger.RunQuery{})
	require.NoError(r.t, err)
	return all
}

// settle waits until every run has ended.
func (r *rig) settle() []webtrigger.Run {
	r.t.Helper()
	var all []webtrigger.Run
	require.Eventually(r.t, func() bool {
		all = r.runs()
		for _, run := range all {
			if !run.Status.Terminal() {
				return false
			}
		}
		return true
	}, patience, 100*time.Millisecond)
	return all
}

// check compares the acknowledged triggers with the stored runs, while no replica is
// running.
func (r *rig) check(all []webtrigger.Run) {
	r.t.Helper()
	ctx := r.t.Context()
	_, err := r.store.SweepDeliveries(ctx, 0, 10_000) // as a replica does a minute later
	require.NoError(r.t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	stored := make(map[int64]string, len(all))
	for _, run := range all {
		stored[run.ID] = run.Key
		r.checkEvents(run)
		deliveries, err := r.store.Deliveries(ctx, run.ID)
		require.NoError(r.t, err)
		require.Len(r.t, deliveries, 1, "run %d", run.ID)
		posts := r.posts[run.Key]
		require.LessOrEqual(r.t, posts, 1, "run %d has two callbacks", run.ID)
		switch deliveries[0].State {
		case webtrigger.DeliveryDelivered:
			require.Equal(r.t, 1, posts)
		case webtrigger.DeliveryPending:
			require.Zero(r.t, posts, "it will be sent once its lease has run out")
		default:
			require.Contains(r.t, []webtrigger.DeliveryState{webtrigger.DeliveryUnknown, webtrigger.DeliveryFailed}, deliveries[0].State)
		}
	}
	for id, key := range r.accepted {
		require.Equal(r.t, key, stored[id], "a trigger acknowledged with 202 must be stored")
	}
}

// checkEvents sees to a gapless run with one end, the last of its events.
func (r *rig) checkEvents(run webtrigger.Run) {
	r.t.Helper()
	page, err := r.store.Events(r.t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 1000})
	require.NoError(r.t, err)
	started, returned := 0, 0
	for i, e := range page.Events {
		require.EqualValues(r.t, i+1, e.Sequence, "run %d", run.ID)
		switch e.Type {
		case "run_started":
			started++
		case "input_received":
			returned++ // the next claim continues the attempt
		case "run_requeued":
			if !strings.Contains(string(e.Payload), string(webtrigger.RequeueHeartbeat)) {
				returned++
			}
		case "run_completed", "run_failed", "run_cancelled", "run_timed_out":
			require.Equal(r.t, len(page.Events)-1, i, "run %d has events after its end", run.ID)
			require.Equal(r.t, "run_"+string(run.Status), string(e.Type))
		}
	}
	require.True(r.t, strings.HasSuffix(string(page.Events[len(page.Events)-1].Type), string(run.Status)))
	require.Equal(r.t, run.Attempts+returned, started, "run %d: each claim but those that were returned is an attempt", run.ID)
	require.GreaterOrEqual(r.t, run.Attempts, 1)
	require.LessOrEqual(r.t, run.Attempts, r.attempts)
	require.Contains(r.t, []webtrigger.RunStatus{webtrigger.RunCompleted, webtrigger.RunTimedOut}, run.Status)
}

// kills is how many replicas TestKillAtRandom ends: WEBTRIGGER_KILLS, else 10.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("WEBTRIGGER_KILLS")); err == nil {
		return n
	}
	return 10
}

func TestKillAtRandom(t *testing.T) {
	t.Parallel()
	r := newRig(t, schemas.Database(t))
	replicas := make([]*process, 3)
	for i := range replicas {
		replicas[i] = r.start("")
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for range kills() {
		var wg sync.WaitGroup
		for _, p := range replicas {
			for range 3 {
				wg.Go(func() { r.trigger(p) })
			}
		}
		victim := random.IntN(len(replicas))
		timer := time.NewTimer(time.Duration(random.IntN(150)) * time.Millisecond)
		<-timer.C
		replicas[victim].Kill()
		wg.Wait()
		replicas[victim] = r.start("")
	}
	all := r.settle()
	r.end(replicas...)
	r.check(all)
	require.NotEmpty(t, r.accepted)
	timedOut := 0
	for _, run := range all {
		if run.Status == webtrigger.RunTimedOut {
			timedOut++
		}
	}
	t.Logf("%d kills: %d runs accepted, %d stored, %d timed out", kills(), len(r.accepted), len(all), timedOut)
}

// end drains replicas.
func (r *rig) end(replicas ...*process) {
	r.t.Helper()
	for _, p := range replicas {
		_ = p.Cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range replicas {
		select {
		case <-p.Exited:
		case <-time.After(patience):
			r.t.Fatal("a replica does not drain")
		}
	}
}

var points = []string{
	"before create", "after create", "after claim", "inside append", "before finish", "after finish",
	"before begin", "after begin", midPost, "after post",
}

// midPost is when the receiver has the POST and has not answered: the rig kills
// the replica then.
const midPost = "mid-POST"

// A replica is killed at a named point, and another one completes its work.
func TestKillAtNamedPoints(t *testing.T) {
	t.Parallel()
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, schemas.Database(t))
			died := r.dieAt(point)
			survivor := r.start("")
			all := r.settle()
			for _, run := range all {
				if run.Status == webtrigger.RunTimedOut {
					after := run.CompletedAt.Sub(died)
					t.Logf("%s: timed_out %v after the kill, leases are %v", point, after, lease)
					require.Less(t, after, 15*lease, "the run must end within ten times the limit")
				}
			}
			r.end(survivor)
			r.check(all)
		})
	}
}

// dieAt has a replica die at a point and returns when.
func (r *rig) dieAt(point string) time.Time {
	r.t.Helper()
	p := r.start(point)
	if point == midPost {
		r.mu.Lock()
		r.midPost = func() { p.Kill() }
		r.mu.Unlock()
	}
	deadline := time.Now().Add(patience)
	for p.Alive() && time.Now().Before(deadline) {
		var wg sync.WaitGroup
		for range 6 { // more than it has slots: some are queued, and claimed
			wg.Go(func() { r.trigger(p) })
		}
		wg.Wait()
		select {
		case <-p.Exited:
		case <-time.After(300 * time.Millisecond):
		}
	}
	require.False(r.t, p.Alive(), "it did not come to %q", point)
	return time.Now()
}

// One process on an SQLite file: the file is intact after every kill, and the next
// process continues.
func TestKillOnSQLite(t *testing.T) {
	t.Parallel()
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, filepath.Join(t.TempDir(), "crash.db"))
			r.close()
			r.dieAt(point)
			r.integrity()
			next := r.start("")
			r.triggerAll(next)
			r.open()
			all := r.settle()
			r.end(next)
			r.check(all)
			r.close()
			r.integrity()
		})
	}
}

func (r *rig) triggerAll(p *process) {
	r.t.Helper()
	for range 3 {
		require.True(r.t, r.trigger(p))
	}
}

func (r *rig) integrity() {
	r.t.Helper()
	db, err := openDatabase(r.database)
	require.NoError(r.t, err)
	defer db.Close()
	var result string
	require.NoError(r.t, db.DB.QueryRowContext(r.t.Context(), `PRAGMA integrity_check`).Scan(&result))
	require.Equal(r.t, "ok", result)
}
