package webtrigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// TestSimulation runs several processes on one store through random faults, in
// a bubble of fake time, once per seed, and holds what must hold whatever
// happens:
//
//   - every accepted run ends, by one terminal event, which is its last
//   - sequences have no hole, and what an attempt emitted is stored once each,
//     in order
//   - a cancellation that was recorded decides
//   - every reader, wherever it reconnects, sees exactly the events after its
//     first cursor
//   - at most one POST per delivery, and one whenever it says delivered; one
//     delivery per run, or with a retry policy one after each that may be retried
//
// WEBTRIGGER_SIM_SEEDS sets how many seeds (default 1,000), and
// WEBTRIGGER_SIM_SEED runs a single one.
func TestSimulation(t *testing.T) {
	t.Parallel()
	first, seeds := 1, 1000
	if testing.Short() {
		seeds = 100
	}
	if v := os.Getenv("WEBTRIGGER_SIM_SEEDS"); v != "" {
		var err error
		seeds, err = strconv.Atoi(v)
		require.NoError(t, err)
	}
	if v := os.Getenv("WEBTRIGGER_SIM_SEED"); v != "" {
		var err error
		first, err = strconv.Atoi(v)
		require.NoError(t, err)
		seeds = 1
	}
	const lanes = 4
	for lane := range lanes {
		t.Run(fmt.Sprintf("lane %d", lane), func(t *testing.T) {
			t.Parallel()
			for from := first + lane; from < first+seeds && !t.Failed(); from += lanes * bubbleWorlds {
				synctest.Test(t, func(t *testing.T) {
					for seed := from; seed < min(from+lanes*bubbleWorlds, first+seeds); seed += lanes {
						simulate(t, seed)
					}
				})
			}
		})
	}
}

// simulate lives one world, in a bubble.
func simulate(t *testing.T, seed int) {
	defer func() {
		if t.Failed() {
			t.Logf("seed %d: run it alone by WEBTRIGGER_SIM_SEED=%d", seed, seed)
		}
	}()
	newWorld(t, uint64(seed)).live()
}

// bubbleWorlds is how many worlds live in a bubble, one after the other. Each
// bubble keeps a context of the race detector until the process ends, and with
// some two thousand of these the detector itself has crashed.
const bubbleWorlds = 50

// world is one simulation.
type world struct {
	t         *testing.T
	seed      uint64
	store     *memstore.Store
	options   webtrigger.Options
	processes []*process
	readers   sync.WaitGroup
	ctx       context.Context // ends with the world
	over      context.CancelFunc

	mu      sync.Mutex // guards what follows
	random  *rand.Rand
	calm    bool // no more faults
	spawned []*process
	runs    []webtrigger.Run
	posts   map[string]int // run_key → POSTs
	emitted map[string][]string
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, store: memstore.New(nil), random: rand.New(rand.NewPCG(seed, 7)),
		posts: make(map[string]int), emitted: make(map[string][]string),
	}
	w.ctx, w.over = context.WithCancel(t.Context())
	w.options = webtrigger.Options{
		BaseURL: "https://app.example.com", Lease: 3 * time.Second, RunTimeout: 20 * time.Second,
		MaxAttempts: 1 + w.n(3), Workers: 1 + w.n(3), CancelGrace: time.Second, DrainTimeout: 2 * time.Second,
		Callback: webtrigger.CallbackOptions{Workers: 2},
	}
	if w.n(4) == 0 {
		w.options.MaxQueueTime = 10 * time.Second
	}
	if w.n(2) == 0 {
		w.options.Callback.Retry = &webtrigger.RetryPolicy{Pauses: []time.Duration{time.Second, 5 * time.Second}}
	}
	return w
}

// n is a random number below max.
func (w *world) n(max int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(max)
}

// pause lets up to max of fake time pass.
func (w *world) pause(max time.Duration) {
	time.Sleep(time.Duration(w.n(int(max/time.Millisecond)+1)) * time.Millisecond)
}

// fault reports whether one in every so many is to go wrong.
func (w *world) fault(every int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.calm && w.random.IntN(every) == 0
}

func (w *world) live() {
	t := w.t
	require.NoError(t, w.store.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	defer w.close()
	for range 2 + w.n(2) {
		w.processes = append(w.processes, w.spawn())
	}
	var actors sync.WaitGroup
	for range 2 + w.n(4) {
		actors.Go(w.trigger)
	}
	for range w.n(4) {
		actors.Go(w.disturb)
	}
	actors.Wait()
	w.mu.Lock()
	w.calm = true
	runs := w.runs
	w.mu.Unlock()
	for _, p := range w.processes {
		p.heal()
	}
	survivor := w.spawn() // someone is always left to pick up
	for _, run := range runs {
		require.True(t, w.ends(run.ID), "run %d has not ended", run.ID)
	}
	w.readers.Wait()
	for _, p := range append(w.processes, survivor) {
		p.stop()
	}
	time.Sleep(2 * time.Minute) // deliveries of the lost are known to be unknown
	last := w.spawn()
	time.Sleep(2 * time.Minute)
	last.stop()
	for _, run := range runs {
		w.check(run.ID)
	}
}

// close ends what is left of a world that failed.
func (w *world) close() {
	w.mu.Lock()
	w.calm = true
	spawned := w.spawned
	w.mu.Unlock()
	w.over()
	for _, p := range spawned {
		p.heal()
		p.stop()
	}
	w.readers.Wait()
}

// trigger accepts a run somewhere, and has it watched and perhaps cancelled.
func (w *world) trigger() {
	w.pause(5 * time.Second)
	p := w.processes[w.n(len(w.processes))]
	req := webtrigger.TriggerRequest{Message: "go"}
	if w.n(3) > 0 {
		req.CallbackURL = "https://203.0.114.1/hook"
	}
	run, err := p.svc.Trigger(w.t.Context(), "1", req)
	if err != nil {
		if !errors.Is(err, context.DeadlineExceeded) { // the store was slow for too long
			require.ErrorIs(w.t, err, webtrigger.ErrUnavailable)
		}
		w.adopt()
		return
	}
	w.mu.Lock()
	w.runs = append(w.runs, run)
	w.mu.Unlock()
	for range 1 + w.n(2) {
		w.readers.Go(func() { w.watch(run) })
	}
	if w.n(3) == 0 {
		w.pause(8 * time.Second)
		_, err := w.store.RequestStop(w.t.Context(), run.ID, webtrigger.CancelStop("by hand"), nil)
		require.NoError(w.t, err)
	}
}

// adopt takes up runs whose 202 was lost: they were accepted all the same.
func (w *world) adopt() {
	all, err := w.store.Runs(w.t.Context(), webtrigger.RunQuery{Page: webtrigger.Page{Limit: 100}})
	require.NoError(w.t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, run := range all {
		known := false
		for _, k := range w.runs {
			known = known || k.ID == run.ID
		}
		if !known {
			w.runs = append(w.runs, run)
		}
	}
}

// disturb cuts a process off for a while, or drains and replaces it.
func (w *world) disturb() {
	w.pause(10 * time.Second)
	i := w.n(len(w.processes))
	w.mu.Lock()
	p := w.processes[i]
	w.mu.Unlock()
	if w.n(2) == 0 {
		p.cut()
		w.pause(12 * time.Second)
		p.heal()
		return
	}
	p.stop()
	next := w.spawn()
	w.mu.Lock()
	w.processes[i] = next
	w.mu.Unlock()
}

func (w *world) ends(runID int64) bool {
	for range 600 {
		run, err := w.store.RunByID(w.t.Context(), runID)
		require.NoError(w.t, err)
		if run.Status.Terminal() {
			return true
		}
		time.Sleep(time.Second)
	}
	return false
}

func (w *world) check(runID int64) {
	t := w.t
	run, err := w.store.RunByID(t.Context(), runID)
	require.NoError(t, err)
	page, err := w.store.Events(t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 1 << 20})
	require.NoError(t, err)
	require.True(t, page.Ended)
	stored := make(map[string][]string) // attempt → what it emitted
	for i, e := range page.Events {
		require.EqualValues(t, i+1, e.Sequence, "seed %d: a hole", w.seed)
		require.Equal(t, i == len(page.Events)-1, e.Type.Terminal(), "seed %d: %s is event %d of %d", w.seed, e.Type, i+1, len(page.Events))
		if e.Type == webtrigger.EventCancelRequested {
			require.Equal(t, webtrigger.RunCancelled, run.Status, "seed %d: a recorded cancel decides", w.seed)
		}
		if e.Type == "x_step" {
			var step struct{ Attempt, Step string }
			require.NoError(t, json.Unmarshal(e.Payload, &step))
			stored[step.Attempt] = append(stored[step.Attempt], step.Step)
		}
	}
	require.Equal(t, "run_"+string(run.Status), string(page.Events[len(page.Events)-1].Type))
	require.False(t, run.CompletedAt.IsZero())
	for attempt, steps := range stored {
		require.LessOrEqual(t, len(steps), len(w.emitted[attempt]), "seed %d: more than attempt %s emitted", w.seed, attempt)
		require.Equal(t, w.emitted[attempt][:len(steps)], steps, "seed %d: what attempt %s emitted", w.seed, attempt)
	}
	if run.Status == webtrigger.RunCompleted {
		require.Len(t, stored[run.Result], len(w.emitted[run.Result]), "seed %d: a completed attempt's events", w.seed)
	}
	w.checkCallback(run)
}

func (w *world) checkCallback(run webtrigger.Run) {
	t := w.t
	deliveries, err := w.store.Deliveries(t.Context(), run.ID)
	require.NoError(t, err)
	posts := w.posts[run.Key]
	if run.CallbackURL == "" {
		require.Empty(t, deliveries)
		require.Zero(t, posts)
		return
	}
	require.NotEmpty(t, deliveries, "seed %d", w.seed)
	attempted, answered, unknown := 0, 0, 0
	for i, d := range deliveries {
		last := i == len(deliveries)-1
		retry := w.options.Callback.Retry != nil && d.HTTPStatus == http.StatusServiceUnavailable && d.Retry < 2
		require.Equal(t, retry, !last, "seed %d: delivery %d of %d of run %d", w.seed, i+1, len(deliveries), run.ID)
		require.Equal(t, i, d.Retry)
		if !d.AttemptedAt.IsZero() {
			attempted++
		}
		if d.HTTPStatus != 0 {
			answered++
		}
		switch d.State {
		case webtrigger.DeliveryUnknown:
			unknown++
		case webtrigger.DeliveryDelivered, webtrigger.DeliveryFailed:
		default:
			t.Errorf("seed %d: delivery %d of run %d is still %s", w.seed, i+1, run.ID, d.State)
		}
		if last {
			require.Equal(t, d.ID, run.Callback.DeliveryID)
			require.Equal(t, d.State, run.Callback.State)
		}
	}
	require.LessOrEqual(t, posts, attempted, "seed %d: POSTs of run %d", w.seed, run.ID)
	require.GreaterOrEqual(t, posts, answered, "seed %d: POSTs of run %d", w.seed, run.ID)
	require.LessOrEqual(t, attempted-posts, unknown, "seed %d: every missing POST of run %d is unknown", w.seed, run.ID)
}

// run is every process's Runner: it emits, waits, and ends in some way. Its
// result names the attempt.
func (w *world) run(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	w.mu.Lock()
	attempt := fmt.Sprintf("%s/%d", task.Run.Key, len(w.emitted))
	w.emitted[attempt] = nil
	w.mu.Unlock()
	for i := range w.n(6) {
		step := strconv.Itoa(i)
		w.mu.Lock()
		w.emitted[attempt] = append(w.emitted[attempt], step)
		w.mu.Unlock()
		if err := emit("x_step", map[string]string{"attempt": attempt, "step": step}); err != nil {
			return nil, err
		}
		w.pause(time.Second)
	}
	switch w.n(12) {
	case 0:
		return nil, errors.New("no luck")
	case 1:
		panic("oh")
	case 2:
		<-ctx.Done()
		return nil, ctx.Err()
	case 3: // deaf to its context
		w.pause(30 * time.Second)
	}
	return &webtrigger.Result{Text: attempt}, nil
}

// watch reads a run's stream to its end, through reconnects anywhere.
func (w *world) watch(run webtrigger.Run) {
	t := w.t
	w.pause(3 * time.Second)
	var seen []int64
	from := int64(w.n(4)) // as ?after_event_id
	last := from
	for w.ctx.Err() == nil {
		w.mu.Lock()
		p := w.processes[w.random.IntN(len(w.processes))]
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(w.ctx, time.Duration(1+w.n(8000))*time.Millisecond)
		url := fmt.Sprintf("/conversations/%d/agent-events?run_id=%d&after_event_id=%d", run.ConversationID, run.ID, from)
		r := httptest.NewRequest(http.MethodGet, url, nil).WithContext(ctx)
		if len(seen) > 0 {
			r.Header.Set("Last-Event-ID", strconv.FormatInt(last, 10))
		}
		out := &pipeWriter{header: make(http.Header)}
		p.events.ServeHTTP(out, r)
		cut := ctx.Err() != nil
		cancel()
		for _, id := range out.ids() {
			seen = append(seen, id)
			last = id
		}
		if out.status == http.StatusNoContent || (out.status == http.StatusOK && !cut && out.ended()) {
			break
		}
		w.pause(time.Second)
	}
	page, err := w.store.Events(t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, AfterID: from, Limit: 1 << 20})
	require.NoError(t, err)
	var want []int64
	for _, e := range page.Events {
		want = append(want, e.ID)
	}
	require.Equal(t, want, seen, "seed %d: what a reader of run %d saw after event %d", w.seed, run.ID, from)
}

// pipeWriter is a client's end of a stream.
type pipeWriter struct {
	header http.Header
	status int
	body   strings.Builder
}

func (p *pipeWriter) Header() http.Header              { return p.header }
func (p *pipeWriter) WriteHeader(status int)           { p.status = status }
func (p *pipeWriter) Flush()                           {}
func (p *pipeWriter) SetWriteDeadline(time.Time) error { return nil }
func (p *pipeWriter) SetReadDeadline(time.Time) error  { return nil }
func (p *pipeWriter) Write(b []byte) (int, error)      { return p.body.Write(b) }
func (p *pipeWriter) ended() bool {
	return strings.Contains(p.body.String(), `"event_type":"run_`) && p.terminal()
}
func (p *pipeWriter) terminal() bool {
	for _, typ := range []string{"completed", "failed", "cancelled", "timed_out"} {
		if strings.Contains(p.body.String(), `"event_type":"run_`+typ+`"`) {
			return true
		}
	}
	return false
}

func (p *pipeWriter) ids() (ids []int64) {
	for line := range strings.Lines(p.body.String()) {
		if s, ok := strings.CutPrefix(line, "id: "); ok {
			id, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
			if err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// process is one replica of a simulation: a service whose way to the store is
// slow, loses answers, and can be cut.
type process struct {
	webtrigger.Store // the shared store, for what is not overridden

	w      *world
	svc    *webtrigger.Service
	events http.Handler
	stop   func() // drains, and returns when Work has

	mu      sync.Mutex
	severed chan struct{} // nil: connected; closed by heal
}

func (w *world) spawn() *process {
	p := &process{Store: w.store, w: w}
	options := w.options
	options.Streams.MemoryBytes = 1500 // readers fall out of the windows
	svc, err := webtrigger.New(p, webtrigger.RunnerFunc(w.run), &options)
	require.NoError(w.t, err)
	w.t.Cleanup(svc.CloseStreams)
	svc.StubCallbacks(p.connect, p.post)
	p.svc = svc
	p.events = svc.EventsHandler(func(*http.Request, webtrigger.Access) error { return nil })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := svc.Work(ctx); err != nil {
			w.t.Errorf("work: %v", err)
		}
	}()
	p.stop = func() {
		cancel()
		<-done
	}
	w.mu.Lock()
	w.spawned = append(w.spawned, p)
	w.mu.Unlock()
	return p
}

// cut severs the process from the store, heal mends that.
func (p *process) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.severed == nil {
		p.severed = make(chan struct{})
	}
}

func (p *process) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.severed != nil {
		close(p.severed)
		p.severed = nil
	}
}

var errLost = fmt.Errorf("the answer is lost: %w", webtrigger.ErrUnavailable)

// call makes one call of the store: it takes its time, waits while the process
// is cut off, and may lose the request or, worse, the answer.
func call[T any](ctx context.Context, p *process, do func() (T, error)) (T, error) {
	var none T
	p.mu.Lock()
	severed := p.severed
	p.mu.Unlock()
	if severed != nil {
		select {
		case <-severed:
		case <-ctx.Done():
			return none, fmt.Errorf("cut off: %w", errors.Join(webtrigger.ErrUnavailable, ctx.Err()))
		}
	}
	p.w.pause(5 * time.Millisecond)
	if p.w.fault(40) {
		return none, errLost
	}
	v, err := do()
	if p.w.fault(40) {
		return none, errLost
	}
	return v, err
}

// attempt is call for methods that return an error only.
func attempt(ctx context.Context, p *process, do func() error) error {
	_, err := call(ctx, p, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

func (p *process) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	return call(ctx, p, func() (webtrigger.CreatedTrigger, error) { return p.Store.CreateTrigger(ctx, t) })
}

func (p *process) ClaimRuns(ctx context.Context, c webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	return call(ctx, p, func() ([]webtrigger.ClaimedRun, error) { return p.Store.ClaimRuns(ctx, c) })
}

func (p *process) RegisterProcess(ctx context.Context, as webtrigger.Process) error {
	return attempt(ctx, p, func() error { return p.Store.RegisterProcess(ctx, as) })
}

func (p *process) RenewProcess(ctx context.Context, as webtrigger.Process) (webtrigger.Renewed, error) {
	if p.w.fault(10) {
		return webtrigger.Renewed{}, errLost
	}
	return call(ctx, p, func() (webtrigger.Renewed, error) { return p.Store.RenewProcess(ctx, as) })
}

func (p *process) RemoveProcess(ctx context.Context, id string) error {
	return attempt(ctx, p, func() error { return p.Store.RemoveProcess(ctx, id) })
}

func (p *process) AppendEvents(ctx context.Context, l webtrigger.Lease, b webtrigger.EventBatch) error {
	return attempt(ctx, p, func() error { return p.Store.AppendEvents(ctx, l, b) })
}

func (p *process) FinishRun(ctx context.Context, l webtrigger.Lease, f webtrigger.Finish) (webtrigger.Run, error) {
	return call(ctx, p, func() (webtrigger.Run, error) { return p.Store.FinishRun(ctx, l, f) })
}

func (p *process) RequeueRun(ctx context.Context, l webtrigger.Lease, r webtrigger.Requeue) (webtrigger.Run, error) {
	return call(ctx, p, func() (webtrigger.Run, error) { return p.Store.RequeueRun(ctx, l, r) })
}

func (p *process) SweepRuns(ctx context.Context, s webtrigger.Sweep) ([]webtrigger.Run, error) {
	return call(ctx, p, func() ([]webtrigger.Run, error) { return p.Store.SweepRuns(ctx, s) })
}

func (p *process) RequestStop(ctx context.Context, id int64, s webtrigger.Stop, l *webtrigger.Lease) (webtrigger.Run, error) {
	return call(ctx, p, func() (webtrigger.Run, error) { return p.Store.RequestStop(ctx, id, s, l) })
}

func (p *process) Events(ctx context.Context, q webtrigger.EventQuery) (webtrigger.EventPage, error) {
	q.Limit = min(q.Limit, 3) // many pages
	return call(ctx, p, func() (webtrigger.EventPage, error) { return p.Store.Events(ctx, q) })
}

func (p *process) LastEventIDs(ctx context.Context, ids []int64) (map[int64]int64, error) {
	return call(ctx, p, func() (map[int64]int64, error) { return p.Store.LastEventIDs(ctx, ids) })
}

// Watch loses hints.
func (p *process) Watch(ctx context.Context, notify func(webtrigger.Hint)) error {
	return p.Store.Watch(ctx, func(h webtrigger.Hint) {
		if !p.w.fault(4) {
			notify(h)
		}
	})
}

func (p *process) LeaseDeliveries(ctx context.Context, c webtrigger.DeliveryQuery) ([]webtrigger.LeasedDelivery, error) {
	return call(ctx, p, func() ([]webtrigger.LeasedDelivery, error) { return p.Store.LeaseDeliveries(ctx, c) })
}

func (p *process) ClaimDelivery(ctx context.Context, l webtrigger.DeliveryLease) error {
	return attempt(ctx, p, func() error { return p.Store.ClaimDelivery(ctx, l) })
}

func (p *process) ReturnDelivery(ctx context.Context, l webtrigger.DeliveryLease) error {
	return attempt(ctx, p, func() error { return p.Store.ReturnDelivery(ctx, l) })
}

func (p *process) FinishDelivery(ctx context.Context, l webtrigger.DeliveryLease, o webtrigger.DeliveryOutcome) error {
	return attempt(ctx, p, func() error { return p.Store.FinishDelivery(ctx, l, o) })
}

// connect and post are the network under the process's callbacks. A slow
// connect outlives its lease.
func (p *process) connect() error {
	p.w.pause(time.Second)
	if p.w.fault(10) {
		time.Sleep(20 * time.Second)
	}
	if p.w.fault(10) {
		return errors.New("no route")
	}
	return nil
}

func (p *process) post(body []byte) (int, error) {
	var cb struct {
		RunKey string `json:"run_key"`
	}
	if err := json.Unmarshal(body, &cb); err != nil {
		return 0, err
	}
	p.w.mu.Lock()
	p.w.posts[cb.RunKey]++
	p.w.mu.Unlock()
	p.w.pause(time.Second)
	if p.w.fault(5) {
		return 0, errors.New("the connection broke")
	}
	if p.w.fault(4) {
		return http.StatusServiceUnavailable, nil
	}
	return http.StatusOK, nil
}
