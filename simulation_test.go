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
	"github.com/webtrigger-go/webtrigger/internal/faultstore"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// TestSimulation runs several processes on one store through random faults, in
// a bubble of fake time, once per seed. The faults are those of weather, process.call
// and the receivers of callbacks.
// Whatever happens:
//
//   - every accepted run ends, by one terminal event, which is its last
//   - no two claims of a run have the same token, and nothing of an attempt is stored
//     after the next claim
//   - if only the store fails, and no process is cut off or replaced, no run ends by a
//     heartbeat timeout, and the Runner is called for each run that is not cancelled,
//     once if a run has one attempt
//   - sequences have no gap, and each event of an attempt is stored once,
//     in order
//   - a cancellation that was recorded decides
//   - every reader, wherever it reconnects, sees exactly the events after its
//     first cursor
//   - of the runs of one conversation, only the oldest unfinished one is claimed, and a run
//     that a later one interrupts ends as cancelled
//   - runs with one key share a conversation, unless retention has freed the key
//   - at most one POST per delivery, and exactly one if its state is delivered; one
//     delivery per run, or with a retry policy one after each that may be retried
//
// WEBTRIGGER_SIM_SEEDS sets how many seeds (default 1,000), and
// WEBTRIGGER_SIM_SEED the first of them; without the other variable, the only one.
func TestSimulation(t *testing.T) {
	t.Parallel()
	first, seeds := 1, 1000
	if testing.Short() {
		seeds = 100
	}
	if v := os.Getenv("WEBTRIGGER_SIM_SEED"); v != "" {
		var err error
		first, err = strconv.Atoi(v)
		require.NoError(t, err)
		seeds = 1
	}
	if v := os.Getenv("WEBTRIGGER_SIM_SEEDS"); v != "" {
		var err error
		seeds, err = strconv.Atoi(v)
		require.NoError(t, err)
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
	late      sync.WaitGroup  // writes whose caller has left
	ctx       context.Context // ends with the world
	over      context.CancelFunc

	mu      sync.Mutex // guards what follows
	random  *rand.Rand
	calm    bool // no more faults
	spawned []*process
	runs    []webtrigger.Run
	posts   map[string]int // run_key → POSTs
	called  map[int64]int  // run → calls of the Runner
	emitted map[string][]string
	claims  map[webtrigger.Lease]bool
	steady  bool // only the store fails
	apart   bool // a process was cut off or replaced, or lost heartbeats of its own

	weather faultstore.Weather // of the store
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, store: memstore.New(nil), random: rand.New(rand.NewPCG(seed, 7)),
		posts: make(map[string]int), called: make(map[int64]int), emitted: make(map[string][]string),
		claims: make(map[webtrigger.Lease]bool),
	}
	w.ctx, w.over = context.WithCancel(t.Context())
	w.options = webtrigger.Options{
		BaseURL: "https://app.example.com", Lease: 3 * time.Second, RunTimeout: 20 * time.Second,
		MaxAttempts: 1 + w.n(3), Workers: 1 + w.n(3), CancelGrace: time.Second, DrainTimeout: 2 * time.Second,
		Callback: webtrigger.CallbackOptions{Workers: 2},
	}
	w.steady = w.n(2) == 0
	if w.n(4) == 0 {
		w.options.MaxQueueTime = 10 * time.Second
	}
	if w.n(8) == 0 {
		age := time.Duration(1+w.n(20)) * time.Second
		w.options.Retention = webtrigger.Retention{Completed: age, Failed: age, Cancelled: age, TimedOut: age}
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

// pause sleeps for up to max of fake time.
func (w *world) pause(max time.Duration) {
	time.Sleep(time.Duration(w.n(int(max/time.Millisecond)+1)) * time.Millisecond)
}

// fault reports whether the next operation must fail: one in every so many.
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
		if !w.steady {
			actors.Go(w.disturb)
		}
	}
	for range w.n(3) {
		actors.Go(w.storm)
	}
	actors.Wait()
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.weather.Clear()
	w.late.Wait()
	for _, p := range w.processes {
		p.weather.Clear()
	}
	w.adopt() // a write whose caller has left may have stored another run
	w.mu.Lock()
	runs := w.runs
	w.mu.Unlock()
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
	for range 2 * 60 {
		if time.Sleep(time.Second); w.settled(runs) {
			break
		}
	}
	time.Sleep(20 * time.Second) // nothing may follow
	last.stop()
	for _, run := range runs {
		w.check(run.ID)
	}
}

// settled reports whether no delivery of the runs is under way or will be.
func (w *world) settled(runs []webtrigger.Run) bool {
	for _, run := range runs {
		deliveries, err := w.store.Deliveries(w.t.Context(), run.ID)
		require.NoError(w.t, err)
		for _, d := range deliveries {
			if d.State == webtrigger.DeliveryPending || d.State == webtrigger.DeliverySending {
				return false
			}
		}
	}
	return true
}

// close ends what is left of a world that failed.
func (w *world) close() {
	w.mu.Lock()
	w.calm = true
	spawned := w.spawned
	w.mu.Unlock()
	w.weather.Clear()
	w.over()
	for _, p := range spawned {
		p.weather.Clear()
		p.stop()
	}
	w.readers.Wait()
	w.late.Wait()
}

// trigger accepts a run somewhere, and has it watched and perhaps cancelled.
func (w *world) trigger() {
	w.pause(5 * time.Second)
	p := w.processes[w.n(len(w.processes))]
	req := webtrigger.TriggerRequest{Message: "go"}
	if w.n(2) == 0 {
		req.ConversationKey = [...]string{"a", "b"}[w.n(2)]
		req.OnBusy = [...]webtrigger.OnBusy{"", webtrigger.BusyEnqueue, webtrigger.BusyReject, webtrigger.BusyInterrupt}[w.n(4)]
	}
	if w.n(3) > 0 {
		req.CallbackURL = "https://203.0.114.1/hook"
	}
	run, err := p.svc.Trigger(w.t.Context(), "1", req)
	if errors.Is(err, webtrigger.ErrConversationBusy) && req.OnBusy == webtrigger.BusyReject {
		return
	}
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
		if w.purges() {
			break // a reader of a purged run ends with 404
		}
		w.readers.Go(func() { w.watch(run) })
	}
	if w.n(3) == 0 {
		w.pause(8 * time.Second)
		_, err := w.store.RequestStop(w.t.Context(), run.ID, webtrigger.CancelStop("by hand"), nil)
		if !w.purged(err) {
			require.NoError(w.t, err)
		}
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

func (w *world) ends(runID int64) bool {
	for range 600 {
		run, err := w.store.RunByID(w.t.Context(), runID)
		if w.purged(err) {
			return true
		}
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
	if w.purged(err) {
		return
	}
	require.NoError(t, err)
	w.checkLane(run)
	page, err := w.store.Events(t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 1 << 20})
	require.NoError(t, err)
	require.True(t, page.Ended)
	stored := make(map[string][]string) // attempt → what it emitted
	current := ""                       // the attempt since the last claim
	for i, e := range page.Events {
		require.EqualValues(t, i+1, e.Sequence, "seed %d: a gap", w.seed)
		require.Equal(t, i == len(page.Events)-1, e.Type.Terminal(), "seed %d: %s is event %d of %d", w.seed, e.Type, i+1, len(page.Events))
		if e.Type == webtrigger.EventCancelRequested {
			require.Equal(t, webtrigger.RunCancelled, run.Status, "seed %d: a recorded cancel decides", w.seed)
		}
		if e.Type == webtrigger.EventRunStarted {
			current = ""
		}
		if e.Type == "x_step" {
			var step struct{ Attempt, Step string }
			require.NoError(t, json.Unmarshal(e.Payload, &step))
			if current == "" {
				require.NotContains(t, stored, step.Attempt, "seed %d: an event of an attempt after the next claim", w.seed)
				current = step.Attempt
			}
			require.Equal(t, current, step.Attempt, "seed %d: an event of an attempt after the next claim", w.seed)
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
	if !w.apart && run.Status != webtrigger.RunCancelled && run.StatusDetail != webtrigger.QueueTimeout().StatusDetail {
		require.NotZero(t, w.called[run.ID], "seed %d: the Runner was never called for run %d", w.seed, run.ID)
		if w.options.MaxAttempts == 1 {
			require.Equal(t, 1, w.called[run.ID], "seed %d: calls of the Runner for run %d", w.seed, run.ID)
		}
		require.NotEqual(t, webtrigger.HeartbeatTimeout().StatusDetail, run.StatusDetail, "seed %d: the store failed, and run %d ended", w.seed, run.ID)
	}
	w.checkCallback(run)
}

// purges reports whether ended runs are purged in this world, and purged whether err is
// that of a purged run.
func (w *world) purges() bool          { return w.options.Retention != webtrigger.Retention{} }
func (w *world) purged(err error) bool { return w.purges() && errors.Is(err, webtrigger.ErrNotFound) }

// checkLane checks an ended run against the others of its key.
func (w *world) checkLane(run webtrigger.Run) {
	for _, other := range w.runs {
		if same := other.ConversationKey == run.ConversationKey; run.ConversationKey != "" && !w.purges() {
			require.Equal(w.t, same, other.ConversationID == run.ConversationID, "seed %d: runs %d and %d", w.seed, run.ID, other.ID)
		}
	}
	var by int64
	if _, err := fmt.Sscanf(run.StatusDetail, "superseded by run %d", &by); err == nil {
		require.Equal(w.t, webtrigger.RunCancelled, run.Status, "seed %d", w.seed)
		require.Greater(w.t, by, run.ID, "seed %d", w.seed)
	}
}

// heads checks that a claimed run is the oldest unfinished one of its conversation.
func (w *world) heads(run webtrigger.Run) {
	runs, err := w.store.Runs(context.Background(), webtrigger.RunQuery{ConversationID: run.ConversationID, Page: webtrigger.Page{Limit: 100}})
	require.NoError(w.t, err)
	for _, other := range runs {
		if other.ID < run.ID && !other.Status.Terminal() {
			w.t.Errorf("seed %d: run %d was claimed while run %d is %s", w.seed, run.ID, other.ID, other.Status)
		}
	}
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
	if !w.apart {
		require.Equal(t, attempted, posts, "seed %d: only the store failed: each claim of run %d was returned or led to its POST", w.seed, run.ID)
	}
}

// run is every process's Runner: it emits, waits, and ends in some way. Its
// result names the attempt.
func (w *world) run(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	w.mu.Lock()
	w.called[task.Run.ID]++
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

// disturb cuts a process off from the store for a while, or drains and replaces it.
func (w *world) disturb() {
	w.pause(10 * time.Second)
	i := w.n(len(w.processes))
	w.mu.Lock()
	p := w.processes[i]
	w.apart = true
	w.mu.Unlock()
	if w.n(2) == 0 {
		p.weather.Change(faultstore.Front(w.n(int(faultstore.Fronts))))
		w.pause(12 * time.Second)
		p.weather.Clear()
		return
	}
	p.stop()
	next := w.spawn()
	w.mu.Lock()
	w.processes[i] = next
	w.mu.Unlock()
}

// part records that a fault affected only one process, so that others may sweep it.
// After a lost heartbeat, a shorter pause of the store ends its lease than theirs.
func (w *world) part() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.apart = true
}

// storm pauses the store, or stalls its commits, for up to several leases.
func (w *world) storm() {
	w.pause(10 * time.Second)
	if w.n(2) == 0 {
		w.weather.Change(faultstore.Outage)
	} else {
		w.weather.Change(faultstore.Stalling)
	}
	w.pause(40 * time.Second)
	w.weather.Clear()
}

// claimed records a claim that the store has made.
func (w *world) claimed(lease webtrigger.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.claims[lease] {
		w.t.Errorf("seed %d: run %d was claimed twice under one token", w.seed, lease.RunID)
	}
	w.claims[lease] = true
}

// process is one replica of a simulation: a service whose way to the store is
// slow, loses answers, and can be cut.
type process struct {
	*faultstore.Store // the shared store

	w      *world
	svc    *webtrigger.Service
	events http.Handler
	stop   func() // drains, and returns when Work has

	weather faultstore.Weather // on its way to the store
}

func (w *world) spawn() *process {
	p := &process{w: w}
	p.Store = &faultstore.Store{Store: simStore{w.store, w}, Call: p.call}
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

var errLost = fmt.Errorf("the answer is lost: %w", webtrigger.ErrUnavailable)

// call makes one call of the store. It takes its time, and the request or, worse, the
// answer may be lost. While the way to the store is held, the call waits. If its caller
// gives up, a write is made later all the same.
func (p *process) call(ctx context.Context, method string, do func(ctx context.Context) error) error {
	k := faultstore.KindOf(method)
	for _, w := range []*faultstore.Weather{&p.weather, &p.w.weather} {
		held, commits := w.Held(k)
		if held == nil {
			continue
		}
		select {
		case <-held:
		case <-ctx.Done():
			if commits {
				p.w.late.Go(func() {
					<-held
					_ = do(context.WithoutCancel(ctx))
				})
			}
			return fmt.Errorf("cut off: %w", errors.Join(webtrigger.ErrUnavailable, ctx.Err()))
		}
	}
	p.w.pause(5 * time.Millisecond)
	if k == faultstore.Heartbeat && p.w.steady {
		return do(ctx)
	}
	err := p.lossy(ctx, k, do)
	if k == faultstore.Heartbeat && errors.Is(err, errLost) {
		p.w.part()
	}
	return err
}

// lossy makes a call on a way that loses requests and answers.
func (p *process) lossy(ctx context.Context, k faultstore.Kind, do func(ctx context.Context) error) error {
	if k == faultstore.Heartbeat && p.w.fault(10) || p.w.fault(40) {
		return errLost
	}
	err := do(ctx)
	if p.w.fault(20) {
		p.w.pause(3 * time.Second) // the answer is slow
	}
	if ctx.Err() != nil {
		return fmt.Errorf("no answer in time: %w", errors.Join(errLost, ctx.Err()))
	}
	if p.w.fault(40) {
		return errLost
	}
	return err
}

// simStore records the claims that the store has made, behind the faults.
type simStore struct {
	webtrigger.Store
	w *world
}

func (l simStore) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	created, err := l.Store.CreateTrigger(ctx, t)
	if created.Lease != nil {
		l.w.claimed(*created.Lease)
		l.w.heads(created.Run)
	}
	return created, err
}

func (l simStore) ClaimRuns(ctx context.Context, c webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	claimed, err := l.Store.ClaimRuns(ctx, c)
	for _, run := range claimed {
		l.w.claimed(run.Lease)
		l.w.heads(run.Run)
	}
	return claimed, err
}

// Events reads many pages.
func (l simStore) Events(ctx context.Context, q webtrigger.EventQuery) (webtrigger.EventPage, error) {
	q.Limit = min(q.Limit, 3)
	return l.Store.Events(ctx, q)
}

// Watch loses hints.
func (l simStore) Watch(ctx context.Context, notify func(webtrigger.Hint)) error {
	return l.Store.Watch(ctx, func(h webtrigger.Hint) {
		if !l.w.fault(4) {
			notify(h)
		}
	})
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
