package storetest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// rig is one rule's store with the steps that rules are made of. A step that
// fails ends the rule; only the methods of store itself may be called from other
// goroutines.
type rig struct {
	*require.Assertions
	t           *testing.T
	ctx         context.Context
	store       webtrigger.Store
	pendingRuns []int64 // the runs of pend

	attempts int // attempts of the runs that take claims; 0: one
}

const (
	assistant = "assistant-1"
	stranger  = "assistant-2"
	absent    = int64(1) << 53 // an id that no store has reached

	long  = time.Minute           // a lease that outlives its rule
	brief = 30 * time.Millisecond // a lease that ends soon: nothing relies on it
	fair  = 2 * time.Second       // long enough for the next call, short enough to wait for

	worker  = "worker"  // a process with a long lease that claims
	sweeper = "sweeper" // a process with a long lease that sweeps

	sameTransition = 20 * time.Millisecond // stamp and expiry may be read off the clock one after the other
)

// change makes a trigger special.
type change = func(t *webtrigger.NewTrigger)

func of(assistantID string) change {
	return func(t *webtrigger.NewTrigger) { t.AssistantID = assistantID }
}

func saying(message string) change {
	return func(t *webtrigger.NewTrigger) { t.Input.Message = message }
}

func in(conversationID int64) change {
	return func(t *webtrigger.NewTrigger) { t.ConversationID = conversationID }
}

func calling(url string) change {
	return func(t *webtrigger.NewTrigger) { t.CallbackURL = url }
}

// at makes a trigger's callbacks those of a host.
func at(host string) change {
	return func(t *webtrigger.NewTrigger) { t.CallbackURL, t.CallbackHost = "https://"+host+"/", host }
}

func doing(task *webtrigger.TaskDefinition) change {
	return func(t *webtrigger.NewTrigger) { t.TaskDefinition = task }
}

// taking makes a trigger's run claimed at its creation.
func taking(processID string) change {
	return func(t *webtrigger.NewTrigger) {
		t.Claim = &webtrigger.Claimant{ProcessID: processID, Token: webtrigger.NewToken()}
	}
}

// bounded limits the queued runs of a trigger's assistant to max.
func bounded(max int) change {
	return func(t *webtrigger.NewTrigger) { t.MaxQueued = max }
}

// keyed gives a trigger an idempotency key; body stands for the request's body.
func keyed(key string, body byte, ttl time.Duration) change {
	return func(t *webtrigger.NewTrigger) { t.Idempotency = use(key, body, ttl) }
}

func use(key string, body byte, ttl time.Duration) *webtrigger.Idempotency {
	return &webtrigger.Idempotency{Key: key, BodyHash: [32]byte{31: body}, TTL: ttl}
}

const callbackURL = "https://receiver.example/hook?a=%2F&b=1"

var withCallback = calling(callbackURL)

func trigger(changes ...change) webtrigger.NewTrigger {
	t := webtrigger.NewTrigger{
		RunKey:      uuid.NewString(),
		AssistantID: assistant,
		Input:       webtrigger.RunInput{Subject: "Subject", Message: "Message"},
		BaseURL:     "https://app.example/base",
	}
	for _, c := range changes {
		c(&t)
	}
	return t
}

// accept stores a trigger.
func (b *rig) accept(changes ...change) webtrigger.Run {
	b.t.Helper()
	accepted, err := b.store.CreateTrigger(b.ctx, trigger(changes...))
	b.NoError(err)
	b.False(accepted.Replayed)
	return accepted.Run
}

// begin registers the processes that most rules need. It comes first, so that the
// sweeper has been in contact for longer than any lease that a rule lets expire.
func (b *rig) begin() {
	b.t.Helper()
	b.register(sweeper, long)
	b.register(worker, long)
}

func (b *rig) register(processID string, lease time.Duration) {
	b.t.Helper()
	b.NoError(b.store.RegisterProcess(b.ctx, webtrigger.Process{ID: processID, Lease: lease, MaxAttempts: max(b.attempts, 1)}))
}

// process registers a new process.
func (b *rig) process(lease time.Duration) (processID string) {
	b.t.Helper()
	processID = uuid.NewString()
	b.register(processID, lease)
	return processID
}

// claim takes up to limit runs under a long lease.
func (b *rig) claim(limit int) []webtrigger.ClaimedRun {
	b.t.Helper()
	return b.claimBy(worker, limit, 0)
}

// claimBy takes runs for a process.
func (b *rig) claimBy(processID string, limit int, runID int64) []webtrigger.ClaimedRun {
	b.t.Helper()
	claimed, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{
		ProcessID: processID, Token: webtrigger.NewToken(), Limit: limit, RunID: runID,
	})
	b.NoError(err)
	return claimed
}

// take takes one queued run, for a process of its own if the lease is to expire.
func (b *rig) take(runID int64, lease time.Duration) webtrigger.ClaimedRun {
	b.t.Helper()
	processID := worker
	if lease != long {
		processID = b.process(lease)
	}
	claimed := b.claimBy(processID, 1, runID)
	b.Len(claimed, 1)
	return claimed[0]
}

// start accepts a run and takes it.
func (b *rig) start(changes ...change) webtrigger.ClaimedRun {
	b.t.Helper()
	return b.take(b.accept(changes...).ID, long)
}

// strand creates and claims a run, whose process then expires.
func (b *rig) strand(changes ...change) webtrigger.ClaimedRun {
	b.t.Helper()
	claimed := b.take(b.accept(changes...).ID, brief)
	b.outlast(brief)
	return claimed
}

func completed(result string) webtrigger.Outcome {
	return webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: result}
}

func failed(text string) webtrigger.Outcome {
	return webtrigger.Outcome{Status: webtrigger.RunFailed, ErrorMessage: text}
}

// finish ends a run with nothing but an outcome.
func (b *rig) finish(lease webtrigger.Lease, outcome webtrigger.Outcome) webtrigger.Run {
	b.t.Helper()
	run, err := b.store.FinishRun(b.ctx, lease, webtrigger.Finish{Outcome: outcome})
	b.NoError(err)
	return run
}

// complete accepts, takes and completes a run.
func (b *rig) complete(changes ...change) webtrigger.Run {
	b.t.Helper()
	return b.finish(b.start(changes...).Lease, completed("Result"))
}

func (b *rig) stop(runID int64, stop webtrigger.Stop) webtrigger.Run {
	b.t.Helper()
	run, err := b.store.RequestStop(b.ctx, runID, stop, nil)
	b.NoError(err)
	return run
}

func (b *rig) requeue(lease webtrigger.Lease) webtrigger.Run {
	b.t.Helper()
	run, err := b.store.RequeueRun(b.ctx, lease, shutdown(webtrigger.EventBatch{}))
	b.NoError(err)
	return run
}

// shutdown is a requeue because the process ends.
func shutdown(batch webtrigger.EventBatch) webtrigger.Requeue {
	return webtrigger.Requeue{Reason: webtrigger.RequeueShutdown, Events: batch}
}

func (b *rig) sweep(sweep webtrigger.Sweep) []webtrigger.Run {
	b.t.Helper()
	if sweep.ProcessID == "" {
		sweep.ProcessID = sweeper
	}
	if sweep.Limit == 0 {
		sweep.Limit = 100
	}
	runs, err := b.store.SweepRuns(b.ctx, sweep)
	b.NoError(err)
	return runs
}

// steps returns a batch of n distinct events.
func steps(number int64, n int) webtrigger.EventBatch {
	batch := webtrigger.EventBatch{Number: number}
	for i := range n {
		batch.Events = append(batch.Events, webtrigger.NewEvent{
			Type: "x_step", Payload: json.RawMessage(fmt.Sprintf(`{"batch":%d,"step":%d}`, number, i+1)),
		})
	}
	return batch
}

func (b *rig) append(lease webtrigger.Lease, batch webtrigger.EventBatch) {
	b.t.Helper()
	b.NoError(b.store.AppendEvents(b.ctx, lease, batch))
}

func (b *rig) run(runID int64) webtrigger.Run {
	b.t.Helper()
	run, err := b.store.RunByID(b.ctx, runID)
	b.NoError(err)
	return run
}

func (b *rig) page(query webtrigger.EventQuery) webtrigger.EventPage {
	b.t.Helper()
	if query.Limit == 0 {
		query.Limit = 10_000
	}
	page, err := b.store.Events(b.ctx, query)
	b.NoError(err)
	return page
}

// events reads all events of a run.
func (b *rig) events(run webtrigger.Run) []webtrigger.Event {
	b.t.Helper()
	return b.page(webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID}).Events
}

func (b *rig) messages(conversationID int64) []webtrigger.Message {
	b.t.Helper()
	messages, err := b.store.Messages(b.ctx, webtrigger.MessageQuery{ConversationID: conversationID, Limit: 1000})
	b.NoError(err)
	return messages
}

func (b *rig) deliveries(runID int64) []webtrigger.Delivery {
	b.t.Helper()
	deliveries, err := b.store.Deliveries(b.ctx, runID)
	b.NoError(err)
	return deliveries
}

// record is all that can be read of one run.
type record struct {
	Run          webtrigger.Run
	Input        webtrigger.RunInput
	Conversation webtrigger.Conversation
	Messages     []webtrigger.Message
	Events       webtrigger.EventPage
	Deliveries   []webtrigger.Delivery
	Steps        []webtrigger.StepRecord
}

func (b *rig) record(runID int64) record {
	b.t.Helper()
	run := b.run(runID)
	input, err := b.store.RunInput(b.ctx, runID)
	b.NoError(err)
	conversation, err := b.store.Conversation(b.ctx, run.ConversationID)
	b.NoError(err)
	return record{
		Run: run, Input: input, Conversation: conversation, Messages: b.messages(run.ConversationID),
		Events: b.page(webtrigger.EventQuery{ConversationID: run.ConversationID}), Deliveries: b.deliveries(runID),
		Steps: b.stepsOf(runID),
	}
}

// clone copies a record, so that it shows the past even of a store that hands out
// what it keeps.
func (r record) clone() record {
	if r.Run.TaskDefinition != nil {
		task := *r.Run.TaskDefinition
		task.AllowedTools, task.OutputSchema = slices.Clone(task.AllowedTools), slices.Clone(task.OutputSchema)
		r.Run.TaskDefinition = &task
	}
	if r.Run.Usage != nil {
		usage := *r.Run.Usage
		r.Run.Usage = &usage
	}
	r.Input.Context, r.Input.Metadata = slices.Clone(r.Input.Context), slices.Clone(r.Input.Metadata)
	r.Conversation.Metadata = slices.Clone(r.Conversation.Metadata)
	r.Messages, r.Deliveries, r.Steps = slices.Clone(r.Messages), slices.Clone(r.Deliveries), slices.Clone(r.Steps)
	r.Events.Events = slices.Clone(r.Events.Events)
	for i := range r.Events.Events {
		r.Events.Events[i].Payload = slices.Clone(r.Events.Events[i].Payload)
	}
	return r
}

// changesNothing holds do to leaving no trace on a run.
func (b *rig) changesNothing(runID int64, do func()) {
	b.t.Helper()
	before := b.record(runID).clone()
	do()
	b.Equal(before, b.record(runID))
}

// key creates an API key with a random hash.
func (b *rig) key(assistantID string) (webtrigger.Key, webtrigger.KeyHash) {
	b.t.Helper()
	hash := newHash()
	key, err := b.store.CreateKey(b.ctx, webtrigger.NewKey{AssistantID: assistantID, Name: "Name", Prefix: "0123abcd", Hash: hash})
	b.NoError(err)
	return key, hash
}

func newHash() (hash webtrigger.KeyHash) {
	_, _ = rand.Read(hash[:])
	return hash
}

// task creates a task definition with all of its fields set.
func (b *rig) task(assistantID string) webtrigger.TaskDefinition {
	b.t.Helper()
	task, err := b.store.CreateTaskDefinition(b.ctx, definition(assistantID))
	b.NoError(err)
	return task
}

func definition(assistantID string) webtrigger.TaskDefinition {
	return webtrigger.TaskDefinition{
		AssistantID: assistantID, Name: "Name", Instructions: "Instructions", OutputType: webtrigger.OutputJSON,
		AllowedTools: []string{"zulu", "alpha", "mike"}, ApproveTools: []string{"mike", "alpha"}, OutputSchema: json.RawMessage(`{ "type":"object",  "maximum":1e22 }`), Active: true,
	}
}

// now reads the store's clock off a stamp.
func (b *rig) now() time.Time {
	b.t.Helper()
	task, err := b.store.CreateTaskDefinition(b.ctx, webtrigger.TaskDefinition{
		AssistantID: "clock", Name: "clock", Instructions: "clock", OutputType: webtrigger.OutputText})
	b.NoError(err)
	b.NoError(b.store.DeleteTaskDefinition(b.ctx, task.ID))
	return task.CreatedAt
}

// past waits until the store's clock has passed at. To read that clock costs two
// transitions, so it is read again when the time should have come.
func (b *rig) past(at time.Time) {
	b.t.Helper()
	for now := b.now(); !now.After(at); now = b.now() {
		select {
		case <-b.ctx.Done():
			b.FailNow("waited in vain")
		case <-time.After(at.Sub(now) + time.Millisecond):
		}
	}
}

// outlast waits until d has passed on the store's clock: whatever began before
// with that duration is over.
func (b *rig) outlast(d time.Duration) {
	b.t.Helper()
	b.past(b.now().Add(d))
}

// eventually polls until cond holds, for 30 seconds.
func (b *rig) eventually(cond func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			b.FailNow("waited in vain")
		case <-tick.C:
		}
	}
}

// together calls do n times at once and returns the error of each call.
func (b *rig) together(n int, do func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var ready, done sync.WaitGroup
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			<-start
			errs[i] = do(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	return errs
}

// succeeded counts the calls that returned nil. The others must have returned rejection.
func (b *rig) succeeded(errs []error, rejection error) (n int) {
	b.t.Helper()
	for _, err := range errs {
		if err == nil {
			n++
			continue
		}
		b.ErrorIs(err, rejection)
	}
	return n
}

// all requires that every call has succeeded.
func (b *rig) all(errs []error) {
	b.t.Helper()
	b.NoError(errors.Join(errs...))
}

// drain empties a queue of size items by n callers together and returns the items. It
// fails if the queue never ends.
func drain[T any](b *rig, n, size int, take func() ([]T, error)) (all []T) {
	b.t.Helper()
	taken := make([][]T, n)
	b.all(b.together(n, func(i int) error {
		for len(taken[i]) <= size {
			got, err := take()
			if err != nil || len(got) == 0 {
				return err
			}
			taken[i] = append(taken[i], got...)
		}
		return errors.New("took more than there was")
	}))
	rest, err := take() // a caller may leave what another one looked at
	for ; err == nil && len(rest) > 0 && len(all) <= size; rest, err = take() {
		all = append(all, rest...)
	}
	b.NoError(err)
	return slices.Concat(append(taken, all)...)
}
