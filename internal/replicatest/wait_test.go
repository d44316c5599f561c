package replicatest_test

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// gate is a Runner whose runs last until it is opened.
type gate struct {
	started chan int64 // the ids of runs
	open    chan struct{}
}

func newGate() *gate { return &gate{started: make(chan int64, 100), open: make(chan struct{})} }

func (g *gate) run(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	g.started <- task.Run.ID
	select {
	case <-g.open:
		return &webtrigger.Result{Text: "done"}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// A thousand requests that wait on one replica for a run of another are a goroutine
// each, ask the database for nothing while nothing moves, and are answered by the
// notification of its end: the poll that is the net under it sees nothing here.
func TestWaitersAreWokenAcrossReplicas(t *testing.T) {
	g := newGate() // not parallel: it counts goroutines
	const n = 1000
	s := newSystem(t, g.run, webtrigger.Options{Workers: 1, Streams: webtrigger.StreamOptions{PerKey: n}}, nil)
	front, back := s.replicas[0], s.replicas[1]
	front.store.blind = true
	s.work(back)
	run := back.trigger(t, "x")
	<-g.started

	before := runtime.NumGoroutine()
	var asked, answered sync.WaitGroup
	late := make([]time.Duration, n)
	var opened time.Time
	for i := range n {
		asked.Add(1)
		answered.Go(func() {
			asked.Done()
			w := front.ask(t.Context(), s.secret, http.MethodGet, statusPath(run), "", "Prefer", "wait=60")
			late[i] = time.Since(opened)
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"run_status":"completed"`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	asked.Wait()
	// All requests are authenticated and wait as soon as a poll has passed without a
	// read.
	reads, polls := -1, 0
	require.Eventually(t, func() bool {
		if front.store.counted("Authenticate") < n || front.store.counted("LastEventIDs") == polls {
			return false
		}
		polls = front.store.counted("LastEventIDs")
		last := reads
		reads = front.store.counted("Run") + front.store.counted("Events") + front.store.counted("Authenticate")
		return last == reads
	}, time.Minute, 10*time.Millisecond)
	require.LessOrEqual(t, runtime.NumGoroutine()-before, n+20)
	require.Equal(t, n, front.store.counted("Authenticate"), "one read of the key each")
	t.Logf("%d reads of the run for %d waiters, %d polls", front.store.counted("Run"), n, polls)

	opened = time.Now()
	close(g.open)
	answered.Wait()
	require.Equal(t, 2*n, front.store.counted("Authenticate"), "and one of the run and the key at the end")
	slices.Sort(late)
	require.Less(t, late[n-1], 20*time.Second, "no request may wait for its full time")
	t.Logf("answered after the end: p50 %v, p99 %v", late[n/2], late[n*99/100])
}

// Without notifications the poll finds the end.
func TestWaitersAreWokenByThePoll(t *testing.T) {
	t.Parallel()
	g := newGate()
	s := newSystem(t, g.run, webtrigger.Options{Workers: 1}, &bunstore.Options{NoNotify: true})
	s.work(s.replicas[1])
	run := s.replicas[1].trigger(t, "x")
	<-g.started
	var opened time.Time
	answers := make(chan time.Duration, 10)
	for i := range cap(answers) {
		go func() {
			w := s.replicas[2*(i%2)].ask(t.Context(), s.secret, http.MethodGet, statusPath(run), "", "Prefer", "wait=60")
			if !strings.Contains(w.Body.String(), `"run_status":"completed"`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			answers <- time.Since(opened)
		}()
	}
	require.Eventually(t, func() bool {
		return s.replicas[0].store.counted("LastEventIDs") > 0 && s.replicas[2].store.counted("LastEventIDs") > 0
	}, time.Minute, 5*time.Millisecond)
	opened = time.Now()
	close(g.open)
	for range cap(answers) {
		require.Less(t, <-answers, 20*time.Second)
	}
}

// A caller that disconnects while it waits has no effect: the run continues, and the
// other callers get their responses.
func TestHangingUpChangesNothing(t *testing.T) {
	t.Parallel()
	g := newGate()
	s := newSystem(t, g.run, webtrigger.Options{Workers: 1}, nil)
	front, back := s.replicas[0], s.replicas[1]
	s.work(back)
	impatient, hangUp := context.WithCancel(t.Context())
	var gone sync.WaitGroup
	for i := range 20 {
		gone.Go(func() {
			w := []*replica{front, back}[i%2].ask(impatient, s.secret, http.MethodPost, triggerPath, `{"message":"x"}`,
				"Prefer", "wait=60", "Idempotency-Key", "k")
			if w.Code != http.StatusAccepted && w.Code != http.StatusServiceUnavailable { // the trigger is stored, or the request had no effect
				t.Errorf("a response after the disconnect: %d %s", w.Code, w.Body)
			}
		})
	}
	id := <-g.started
	run, err := front.RunByID(t.Context(), id)
	require.NoError(t, err)
	patient := make(chan string, 1)
	go func() {
		patient <- front.ask(t.Context(), s.secret, http.MethodGet, statusPath(run), "", "Prefer", "wait=60").Body.String()
	}()
	require.Eventually(t, func() bool {
		return front.store.counted("Authenticate")+back.store.counted("Authenticate") == 21
	}, time.Minute, 5*time.Millisecond)
	hangUp()
	gone.Wait()
	run, err = back.RunByID(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunRunning, run.Status)
	close(g.open)
	require.Contains(t, <-patient, `"run_status":"completed"`)
	require.Equal(t, 1, s.runs())
}
