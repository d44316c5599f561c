package memstore_test

import (
	"context"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// drawn is the first diagram of docs/state-machine.md: the transitions of a run.
func drawn(t *testing.T) []string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/state-machine.md")
	require.NoError(t, err)
	_, diagram, found := strings.Cut(string(doc), "```mermaid")
	require.True(t, found)
	diagram, _, _ = strings.Cut(diagram, "```")
	var edges []string
	for _, edge := range regexp.MustCompile(`(?m)^\s*(\w+) --> (\w+)`).FindAllStringSubmatch(diagram, -1) {
		edges = append(edges, edge[1]+" to "+edge[2])
	}
	return edges
}

// modelRun is the model's state of a run.
type modelRun struct {
	id       int64
	status   webtrigger.RunStatus
	seen     webtrigger.RunStatus // the store's, at the last comparison
	queued   time.Time
	stopped  webtrigger.RunStatus // recorded, "" for none
	input    int64                // of the last request
	answered int64                // the last request that was answered
	expires  time.Time            // of the last request
	lease    webtrigger.Lease
	process  *modelProcess
	finished bool // ended by FinishRun under the lease
	attempts int
	events   int
	batch    int64
}

// modelProcess is the model's state of a process that claims runs.
type modelProcess struct {
	webtrigger.Process
	expires time.Time
	lost    bool
}

// machine is a store and a model of its runs, side by side.
type machine struct {
	t        *rapid.T
	ctx      context.Context
	store    *memstore.Store
	clock    *monotonic
	runs     []*modelRun
	started  time.Time
	workers  []*modelProcess // the last one claims
	attempts int             // MaxAttempts
	edges    map[string]bool // transitions of the store's runs
	inputs   int64           // number of requests for input
}

const (
	modelLease = 10 * time.Second
	modelQueue = 8500 * time.Millisecond
	sweeper    = "sweeper" // a process that never expires
)

// Runs make the transitions of the diagram in docs/state-machine.md, all of them and
// no others.
func TestStateMachine(t *testing.T) {
	t.Parallel()
	edges := make(map[string]bool)
	walk := func(rt *rapid.T) {
		clock := newMonotonic()
		m := &machine{
			t: rt, clock: clock, attempts: rapid.IntRange(1, 2).Draw(rt, "attempts"), edges: edges, started: clock.t,
			ctx: t.Context(), store: memstore.New(&memstore.Options{Clock: clock}),
		}
		require.NoError(rt, m.store.RegisterProcess(m.ctx, webtrigger.Process{ID: sweeper, Lease: 1e6 * time.Hour, MaxAttempts: 1}))
		m.register()
		rt.Repeat(map[string]func(*rapid.T){
			"":        m.compare,
			"trigger": m.trigger,
			"claim":   m.claim,
			"renew":   m.renew,
			"append":  m.append,
			"finish":  m.finish,
			"requeue": m.requeue,
			"cancel":  m.cancel,
			"await":   m.await,
			"answer":  m.answer,
			"sweep":   m.sweep,
			"time": func(rt *rapid.T) {
				clock.t = clock.t.Add(time.Duration(rapid.IntRange(0, 15).Draw(rt, "seconds")) * time.Second)
			},
		})
	}
	want := drawn(t)
	for try := 0; try < 50 && (try == 0 || len(edges) < len(want)); try++ { // a walk that makes a rare transition comes soon
		rapid.Check(t, walk)
	}
	require.ElementsMatch(t, want, slices.Collect(maps.Keys(edges)))
}

// pick draws a run, or skips.
func (m *machine) pick(rt *rapid.T) *modelRun {
	if len(m.runs) == 0 {
		rt.Skip("no run yet")
	}
	return m.runs[rapid.IntRange(0, len(m.runs)-1).Draw(rt, "run")]
}

// register adds a process that claims from now on.
func (m *machine) register() {
	p := webtrigger.Process{ID: uuid.NewString(), Lease: modelLease, MaxAttempts: m.attempts}
	require.NoError(m.t, m.store.RegisterProcess(m.ctx, p))
	m.workers = append(m.workers, &modelProcess{Process: p, expires: m.clock.t.Add(modelLease)})
}

func (m *machine) worker() *modelProcess { return m.workers[len(m.workers)-1] }

// held reports whether the claim of a run has not ended. Its process may have expired.
func (m *machine) held(r *modelRun) bool { return r.status == webtrigger.RunRunning }

func (m *machine) end(r *modelRun, status webtrigger.RunStatus) {
	if r.stopped != "" {
		status = r.stopped
	}
	r.status = status
	r.events++
}

func (m *machine) trigger(*rapid.T) {
	created, err := m.store.CreateTrigger(m.ctx, trigger(int64(len(m.runs))+1))
	require.NoError(m.t, err)
	m.runs = append(m.runs, &modelRun{id: created.Run.ID, status: webtrigger.RunQueued, seen: webtrigger.RunQueued, queued: m.clock.t, events: 1})
}

func (m *machine) claim(rt *rapid.T) {
	limit := rapid.IntRange(1, 3).Draw(rt, "limit")
	claimed, err := m.store.ClaimRuns(m.ctx, webtrigger.Claim{ProcessID: m.worker().ID, Token: webtrigger.NewToken(), Limit: limit})
	if m.worker().lost {
		require.ErrorIs(rt, err, webtrigger.ErrLeaseLost)
		m.register()
		return
	}
	require.NoError(rt, err)
	var want []int64
	for _, r := range m.runs {
		if r.status == webtrigger.RunQueued && len(want) < limit {
			want = append(want, r.id)
			c := claimed[len(want)-1]
			require.NotEqual(rt, r.lease.Token, c.Lease.Token, "a token is never used again")
			r.status, r.lease, r.process, r.batch = webtrigger.RunRunning, c.Lease, m.worker(), 0
			r.attempts++
			r.events++
		}
	}
	require.Len(rt, claimed, len(want))
	for i, c := range claimed {
		require.Equal(rt, want[i], c.Run.ID, "oldest first")
	}
}

func (m *machine) renew(rt *rapid.T) {
	p := m.worker()
	renewed, err := m.store.RenewProcess(m.ctx, p.Process)
	require.NoError(rt, err)
	require.Equal(rt, !p.lost, renewed.Registered)
	if p.lost {
		m.register()
		return
	}
	p.expires = m.clock.t.Add(modelLease)
	claims := renewed.Claims
	for _, r := range m.runs {
		if m.held(r) && r.process == p {
			require.NotEmpty(rt, claims)
			require.Equal(rt, r.lease, claims[0].Lease)
			require.Equal(rt, r.stopped != "", claims[0].Stop != nil)
			claims = claims[1:]
		}
	}
	require.Empty(rt, claims)
}

func (m *machine) append(rt *rapid.T) {
	r := m.pick(rt)
	number := r.batch + int64(rapid.IntRange(0, 1).Draw(rt, "new"))
	if number == 0 {
		number = 1
	}
	err := m.store.AppendEvents(m.ctx, webtrigger.Lease{RunID: r.id, Token: r.lease.Token},
		webtrigger.EventBatch{Number: number, Events: []webtrigger.NewEvent{{Type: "x_step", Payload: []byte(`{}`)}}})
	if !m.held(r) {
		require.ErrorIs(rt, err, webtrigger.ErrLeaseLost)
		return
	}
	require.NoError(rt, err)
	if number > r.batch {
		r.batch = number
		r.events++
	}
}

func (m *machine) finish(rt *rapid.T) {
	r := m.pick(rt)
	status := rapid.SampledFrom([]webtrigger.RunStatus{webtrigger.RunCompleted, webtrigger.RunFailed}).Draw(rt, "status")
	_, err := m.store.FinishRun(m.ctx, webtrigger.Lease{RunID: r.id, Token: r.lease.Token},
		webtrigger.Finish{Outcome: webtrigger.Outcome{Status: status, ErrorMessage: "why"}})
	if r.finished {
		require.NoError(rt, err, "the same end again")
		return
	}
	if !m.held(r) {
		require.ErrorIs(rt, err, webtrigger.ErrLeaseLost)
		return
	}
	require.NoError(rt, err)
	r.finished = true
	m.end(r, status)
}

func (m *machine) requeue(rt *rapid.T) {
	r := m.pick(rt)
	_, err := m.store.RequeueRun(m.ctx, webtrigger.Lease{RunID: r.id, Token: r.lease.Token}, webtrigger.Requeue{Reason: webtrigger.RequeueShutdown})
	switch {
	case !m.held(r):
		require.ErrorIs(rt, err, webtrigger.ErrLeaseLost)
	case r.stopped != "":
		require.NoError(rt, err)
		m.end(r, "")
	default:
		require.NoError(rt, err)
		r.status, r.queued = webtrigger.RunQueued, m.clock.t
		r.attempts--
		r.events++
	}
}

func (m *machine) cancel(rt *rapid.T) {
	r := m.pick(rt)
	_, err := m.store.RequestStop(m.ctx, r.id, webtrigger.CancelStop("by hand"), nil)
	require.NoError(rt, err)
	switch {
	case r.status.Terminal() || r.stopped != "":
		return
	case r.status != webtrigger.RunRunning:
		r.events++
		m.end(r, webtrigger.RunCancelled)
	default:
		r.events++
		r.stopped = webtrigger.RunCancelled
	}
}

func (m *machine) await(rt *rapid.T) {
	r := m.pick(rt)
	_, err := m.store.AwaitInput(m.ctx, webtrigger.Lease{RunID: r.id, Token: r.lease.Token},
		webtrigger.Await{Request: webtrigger.InputRequest{Question: "Which?", ExpiresIn: modelQueue}, Ordinal: 1})
	if !m.held(r) {
		require.ErrorIs(rt, err, webtrigger.ErrLeaseLost)
		return
	}
	require.NoError(rt, err)
	if r.stopped != "" {
		m.end(r, "")
		return
	}
	r.status, r.expires = webtrigger.RunWaiting, m.clock.t.Add(modelQueue)
	r.events++
	m.inputs++
	r.input = m.inputs
}

func (m *machine) answer(rt *rapid.T) {
	r := m.pick(rt)
	run, err := m.store.AnswerInput(m.ctx, webtrigger.NewAnswer{RunID: r.id, InputID: r.input, Answer: webtrigger.InputAnswer{Answer: []byte(`"x"`)}})
	switch {
	case r.input == 0:
		require.ErrorIs(rt, err, webtrigger.ErrNotFound)
	case r.status == webtrigger.RunWaiting && m.clock.t.Before(r.expires):
		require.NoError(rt, err)
		r.status, r.queued, r.answered = webtrigger.RunQueued, m.clock.t, r.input
		r.attempts--
		r.events++
	case r.answered == r.input:
		require.NoError(rt, err, "the same answer again")
		require.Equal(rt, r.status, run.Status)
	default:
		require.ErrorIs(rt, err, webtrigger.ErrInputClosed)
	}
}

func (m *machine) sweep(rt *rapid.T) {
	swept, err := m.store.SweepRuns(m.ctx, webtrigger.Sweep{ProcessID: sweeper, MaxQueueTime: modelQueue, Limit: 100})
	require.NoError(rt, err)
	for _, p := range m.workers {
		p.lost = p.lost || !m.clock.t.Before(p.expires) && m.clock.t.Sub(m.started) >= modelLease
	}
	n := 0
	for _, r := range m.runs {
		late := r.status == webtrigger.RunQueued && m.clock.t.Sub(r.queued) > modelQueue ||
			r.status == webtrigger.RunWaiting && !m.clock.t.Before(r.expires)
		if !late && (!m.held(r) || !r.process.lost) {
			continue
		}
		n++
		if !late && r.stopped == "" && r.attempts < m.attempts {
			r.status, r.queued = webtrigger.RunQueued, m.clock.t
			r.events++
			continue
		}
		m.end(r, webtrigger.RunTimedOut)
	}
	require.Len(rt, swept, n)
}

// compare holds the store against the model after every step.
func (m *machine) compare(rt *rapid.T) {
	for _, r := range m.runs {
		run, err := m.store.RunByID(m.ctx, r.id)
		require.NoError(rt, err)
		require.Equal(rt, r.status, run.Status)
		if run.Status != r.seen {
			m.edges[string(r.seen)+" to "+string(run.Status)] = true
			r.seen = run.Status
		}
		require.Equal(rt, r.attempts, run.Attempts)
		page, err := m.store.Events(m.ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 10_000})
		require.NoError(rt, err)
		require.Len(rt, page.Events, r.events)
		var ends []webtrigger.EventType
		for i, e := range page.Events {
			require.EqualValues(rt, i+1, e.Sequence)
			if e.Type.Terminal() {
				ends = append(ends, e.Type)
			}
		}
		if r.status.Terminal() {
			require.Equal(rt, []webtrigger.EventType{"run_" + webtrigger.EventType(r.status)}, ends)
			require.Equal(rt, ends[0], page.Events[len(page.Events)-1].Type)
		} else {
			require.Empty(rt, ends)
		}
	}
}
