//go:build unix

package crashtest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
)

func (r *rig) run(id int64) webtrigger.Run {
	r.t.Helper()
	run, err := r.store.RunByID(r.t.Context(), id)
	require.NoError(r.t, err)
	return run
}

func (r *rig) events(run webtrigger.Run) []webtrigger.Event {
	r.t.Helper()
	page, err := r.store.Events(r.t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 10_000})
	require.NoError(r.t, err)
	return page.Events
}

func (r *rig) ended(id int64) webtrigger.Run {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.run(id).Status.Terminal() }, patience, 50*time.Millisecond)
	return r.run(id)
}

// A worker that continues after a pause longer than its lease writes nothing about its
// former runs. Another process has ended them, or, with attempts
// left, executes them.
func TestStoppedWorker_continued_writesNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		attempts int
		steps    string
		want     webtrigger.RunStatus
	}{
		"one attempt":  {1, "100000", webtrigger.RunTimedOut}, // for longer than the test
		"two attempts": {2, "500", webtrigger.RunCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, schemas.Database(t))
			r.attempts = test.attempts
			stopped := r.start("")
			var ids []int64
			for range 3 {
				ids = append(ids, r.send(stopped, test.steps))
			}
			for _, id := range ids {
				require.NotZero(t, id)
				require.Eventually(t, func() bool { return len(r.events(r.run(id))) > 5 }, patience, 20*time.Millisecond)
			}
			require.NoError(t, stopped.Cmd.Process.Signal(syscall.SIGSTOP))
			asleep := time.NewTimer(3 * lease)
			other := r.start("")
			left := make(map[int64][]webtrigger.Event)
			for _, id := range ids {
				require.Eventually(t, func() bool { return r.leftBehind(r.run(id)) }, patience, 50*time.Millisecond)
				left[id] = r.events(r.run(id))
			}
			<-asleep.C
			require.NoError(t, stopped.Cmd.Process.Signal(syscall.SIGCONT))
			after := r.send(stopped, "work")
			require.NotZero(t, after, "it serves again")
			require.Equal(t, webtrigger.RunCompleted, r.ended(after).Status)
			for _, id := range ids {
				require.Equal(t, test.want, r.ended(id).Status)
			}
			r.end(stopped, other) // with all its late writes
			for _, id := range ids {
				events := r.events(r.run(id))
				require.Equal(t, left[id], events[:len(left[id])])
				for _, e := range events[len(left[id]):] {
					require.NotContains(t, string(e.Payload), fmt.Sprintf(`"process":%d`, stopped.Cmd.Process.Pid),
						"run %d: written by the process that was stopped", id)
				}
			}
			r.check(r.runs())
		})
	}
}

// leftBehind reports whether a run has ended, or was claimed again.
func (r *rig) leftBehind(run webtrigger.Run) bool { return run.Status.Terminal() || run.Attempts > 1 }

// The server restarts, after a shutdown and after a crash, and all of its sessions end.
// Running runs complete, and a stream continues.
func TestPostgres_restartsDuringRuns_runsComplete(t *testing.T) {
	t.Parallel()
	pgtest.Shared(t) // skips where PostgreSQL is missing
	for name, disturb := range map[string]func(pg *pgtest.Server) error{
		"fast":      func(pg *pgtest.Server) error { return pg.Restart(pgtest.Fast) },
		"immediate": func(pg *pgtest.Server) error { return pg.Restart(pgtest.Immediate) },
		"sessions": func(pg *pgtest.Server) error {
			_, err := pg.Psql("postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pg, err := pgtest.Start(&pgtest.Options{Settings: map[string]string{"synchronous_commit": "on", "fsync": "on"}})
			require.NoError(t, err)
			t.Cleanup(pg.Stop)
			r := newRig(t, pg.DSN("postgres"))
			r.lease = 10 * lease // the test is not about leases that expire on a slow machine
			a, b := r.start(""), r.start("")
			id := r.send(b, "20")
			require.NotZero(t, id)
			before := r.events(r.run(id))
			whole, opened := make(chan []int64, 1), make(chan struct{})
			conversation, open := r.run(id).ConversationID, sync.OnceFunc(func() { close(opened) })
			go func() {
				sequences, _, _ := r.read(a, conversation, 0, 10_000, open) // while b executes
				whole <- sequences
			}()
			<-opened
			require.NoError(t, disturb(pg))
			began := time.Now()
			var next int64
			require.Eventually(t, func() bool { next = r.send(a, "work"); return next != 0 }, patience, 50*time.Millisecond)
			t.Logf("accepts again %v after it was back", time.Since(began))
			var after webtrigger.Run
			for deadline := time.Now().Add(patience); after.Status != webtrigger.RunCompleted; time.Sleep(50 * time.Millisecond) {
				after, err = r.store.RunByID(t.Context(), next)
				require.True(t, time.Now().Before(deadline), "the run after the restart has not completed: %+v, error %v", after, err)
			}
			r.ended(id)
			events := r.events(r.run(id))
			require.GreaterOrEqual(t, len(events), len(before))
			sequences := <-whole
			require.Len(t, sequences, len(events), "of a stream that was open all the while")
			for i, sequence := range sequences {
				require.EqualValues(t, i+1, sequence)
			}
			r.end(a, b)
			r.check(r.settle())
		})
	}
}

// read opens the stream of a conversation at a replica behind an event, and
// reads some of it. It calls seen with each event, unless that is nil.
func (r *rig) read(p *process, conversation, after int64, atMost int, seen func()) (sequences, ids []int64, ended bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	url := fmt.Sprintf("%s/api/v1/web-triggers/%d/events", p.url, conversation)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(r.t, err)
	req.Header.Set("Authorization", "Bearer "+r.key)
	if after > 0 {
		req.Header.Set("Last-Event-ID", fmt.Sprint(after))
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil, nil, true
	}
	require.Equal(r.t, http.StatusOK, resp.StatusCode)
	lines := bufio.NewScanner(resp.Body)
	for len(ids) < atMost && lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e struct{ Sequence, ID int64 }
		require.NoError(r.t, json.Unmarshal([]byte(data), &e))
		sequences, ids = append(sequences, e.Sequence), append(ids, e.ID)
		if seen != nil {
			seen()
		}
	}
	return sequences, ids, false
}

// A reader that goes from replica to replica in the middle of a run, ten times for
// each kill of TestKillAtRandom, sees each event once and in order, whichever
// process executes the run. At first b has no other reader: each connection finds a replica that watches
// nothing yet, and costs the database one to listen on.
func TestStreamAcrossReplicas(t *testing.T) {
	t.Parallel()
	r := newRig(t, schemas.Database(t))
	a, b := r.start(""), r.start("")
	moves := 10 * int64(kills())
	id := r.send(b, strconv.FormatInt(moves+moves/10, 10))
	require.NotZero(t, id)
	conversation := r.run(id).ConversationID
	stay := func(p *process, after int64) <-chan []int64 {
		whole := make(chan []int64, 1)
		go func() {
			sequences, _, _ := r.read(p, conversation, after, 10_000, nil) // while b executes
			whole <- sequences
		}()
		return whole
	}
	whole := stay(a, 0)
	var last, connections int64
	var seen, before []int64
	var rest <-chan []int64 // what comes after before
	for {
		p := []*process{a, b}[connections%2]
		sequences, ids, ended := r.read(p, conversation, last, 1, nil)
		if ended {
			break
		}
		connections++
		if len(ids) > 0 {
			seen, last = append(seen, sequences...), ids[len(ids)-1]
		}
		if connections == moves/10 {
			before, rest = seen, stay(b, last)
		}
	}
	require.GreaterOrEqual(t, connections, moves)
	require.Equal(t, webtrigger.RunCompleted, r.ended(id).Status)
	want := make([]int64, len(r.events(r.run(id))))
	for i := range want {
		want[i] = int64(i + 1)
	}
	require.Equal(t, want, seen)
	require.Equal(t, want, <-whole)
	require.Equal(t, want[len(before):], <-rest)
	r.end(a, b)
}
