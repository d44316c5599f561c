package replicatest_test

import (
	"context"
	"database/sql"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		pgtest.StopShared()
		os.Exit(code)
	}))
}

// system is three services on one database, as three processes would have them:
// each with a pool, a store and a queue of its own.
type system struct {
	t        *testing.T
	db       *bun.DB // for looking behind the stores
	replicas [3]*replica
	secret   string // an API key of assistant 1
}

type replica struct {
	*webtrigger.Service
	store *counting
}

// counting counts the answers to calls that waiting for a run makes, and may hide the ends of
// logs from the poll that is the net under the hints.
type counting struct {
	*bunstore.Store
	mu    sync.Mutex
	calls map[string]int
	blind bool
}

func (c *counting) count(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[call]++
}

func (c *counting) counted(call string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[call]
}

func (c *counting) RunSummary(ctx context.Context, id int64) (webtrigger.Run, error) {
	defer c.count("Run")
	return c.Store.RunSummary(ctx, id)
}

func (c *counting) Events(ctx context.Context, query webtrigger.EventQuery) (webtrigger.EventPage, error) {
	defer c.count("Events")
	return c.Store.Events(ctx, query)
}

func (c *counting) Authenticate(ctx context.Context, hash webtrigger.KeyHash, triggerID, runID int64) (webtrigger.Grant, error) {
	defer c.count("Authenticate")
	return c.Store.Authenticate(ctx, hash, triggerID, runID)
}

func (c *counting) LastEventIDs(ctx context.Context, ids []int64) (map[int64]int64, error) {
	defer c.count("LastEventIDs")
	if c.blind {
		return nil, nil
	}
	return c.Store.LastEventIDs(ctx, ids)
}

func newSystem(t *testing.T, runner webtrigger.RunnerFunc, opts webtrigger.Options, storeOpts *bunstore.Options) *system {
	t.Helper()
	s := &system{t: t}
	dsn := schemas.Database(t)
	open := func() *bun.DB {
		db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn)))
		db.SetMaxOpenConns(8)
		db.SetMaxIdleConns(8)
		t.Cleanup(func() { assert.NoError(t, db.Close()) })
		return bun.NewDB(db, pgdialect.New())
	}
	s.db = open()
	opts.BaseURL = "https://app.example.com"
	for i := range s.replicas {
		store, err := bunstore.New(open(), storeOpts)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, store.Close()) })
		require.NoError(t, store.Migrate(t.Context()))
		r := &replica{store: &counting{Store: store, calls: make(map[string]int)}}
		r.Service, err = webtrigger.New(r.store, runner, &opts)
		require.NoError(t, err)
		t.Cleanup(r.CloseStreams) // before its store is closed
		s.replicas[i] = r
	}
	first := s.replicas[0]
	require.NoError(t, first.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	_, secret, err := first.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	s.secret = secret
	return s
}

// work starts Work of replicas until the test ends.
func (s *system) work(replicas ...*replica) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	var done sync.WaitGroup
	for _, r := range replicas {
		done.Go(func() { assert.NoError(s.t, r.Work(ctx)) })
	}
	s.t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}

const triggerPath = "/api/v1/assistants/1/web-trigger"

// ask sends a request to a replica. header are names and values.
func (r *replica) ask(ctx context.Context, secret, method, path, body string, header ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+secret)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func statusPath(run webtrigger.Run) string {
	return "/api/v1/web-triggers/" + strconv.FormatInt(run.ConversationID, 10) + "/status"
}

// trigger triggers from Go.
func (r *replica) trigger(t *testing.T, message string) webtrigger.Run {
	t.Helper()
	run, err := r.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: message})
	require.NoError(t, err)
	return run
}

// runs is how many runs there are.
func (s *system) runs() (n int) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRowContext(s.t.Context(), `SELECT count(*) FROM webtrigger_runs`).Scan(&n))
	return n
}

// together calls do n times at once.
func together(n int, do func(i int)) {
	start := make(chan struct{})
	var ready, done sync.WaitGroup
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			<-start
			do(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
}
