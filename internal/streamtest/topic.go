package streamtest

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/webtrigger-go/webtrigger"
)

// topic is one conversation: two runs, one after the other, whose events one writer
// appends.
type topic struct {
	rig   *rig
	store webtrigger.Store // of the replica that writes
	id    int64
	runs  []*run

	mu    sync.Mutex // guards what follows
	moved *sync.Cond
	head  int64 // events appended
	read  int64 // the id up to which the foremost subscriber has read
	ended bool
}

type run struct {
	webtrigger.Run
	lease webtrigger.Lease
	batch int64
}

// lead is how far a writer may be ahead of the foremost subscriber, so that events are
// read while others are appended.
const lead = 200

func newTopic(r *rig) *topic {
	topic := &topic{rig: r, store: r.o.Stores[len(r.topics)%len(r.o.Stores)]}
	topic.moved = sync.NewCond(&topic.mu)
	for range 2 {
		topic.runs = append(topic.runs, topic.begin())
	}
	topic.head = 3 // each run was queued, and the first one started
	return topic
}

// process is the worker of all runs.
var process = webtrigger.Process{ID: "streamtest", Lease: 24 * time.Hour, MaxAttempts: 1}

// begin creates a run, and claims it if it is the first of the conversation.
func (c *topic) begin() *run {
	t := c.rig.t
	t.Helper()
	if err := c.store.RegisterProcess(t.Context(), process); err != nil {
		t.Fatal(err)
	}
	take := webtrigger.Claimant{ProcessID: process.ID, Token: webtrigger.NewToken()}
	accepted, err := c.store.CreateTrigger(t.Context(), webtrigger.NewTrigger{
		RunKey: uuid.NewString(), AssistantID: "1", ConversationID: c.id,
		Input: webtrigger.RunInput{Message: "go"}, BaseURL: "https://app.example.com", Claim: &take,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.id = accepted.Run.ConversationID
	if accepted.Lease != nil {
		return &run{Run: accepted.Run, lease: *accepted.Lease}
	}
	return &run{Run: accepted.Run}
}

// claim starts a run that is behind no other one any more.
func (c *topic) claim(r *run) error {
	claimed, err := c.store.ClaimRuns(c.rig.t.Context(), webtrigger.Claim{ProcessID: process.ID, Token: webtrigger.NewToken(), Limit: 1, RunID: r.ID})
	if err != nil {
		return err
	}
	if len(claimed) != 1 {
		return fmt.Errorf("run %d is not claimable", r.ID)
	}
	r.lease = claimed[0].Lease // subscribers read the rest
	return nil
}

// write appends n events in batches, the same number to each run, and ends the runs.
func (c *topic) write(n int) {
	for i, r := range c.runs {
		if r.lease.Token == 0 {
			if err := c.claim(r); err != nil {
				c.rig.fail("claim a run: %v", err)
			}
			if !c.wrote(1) {
				return
			}
		}
		if !c.append(r, (n+i)/len(c.runs)) {
			return
		}
		end := webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "done"}}
		if _, err := c.store.FinishRun(c.rig.t.Context(), r.lease, end); err != nil {
			c.rig.fail("finish run: %v", err)
		}
		if !c.wrote(1) {
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.moved.Broadcast()
}

// append appends n events to a run. It reports whether to continue.
func (c *topic) append(r *run, n int) bool {
	for left := n; left > 0; {
		size := min(1+c.rig.n(20), left)
		left -= size
		r.batch++
		events := make([]webtrigger.NewEvent, size)
		for i := range events {
			events[i] = webtrigger.NewEvent{Type: "x_step", Payload: json.RawMessage(fmt.Sprintf(`{"batch":%d,"n":%d,"text":"a \"b\" <c>"}`, r.batch, i))}
		}
		err := c.store.AppendEvents(c.rig.t.Context(), r.lease, webtrigger.EventBatch{Number: r.batch, Events: events})
		if err != nil {
			c.rig.fail("append events: %v", err)
		}
		if !c.wrote(int64(size)) {
			return false
		}
	}
	return true
}

// wrote waits while the writer is too far ahead. It reports whether to continue.
func (c *topic) wrote(n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head += n
	c.moved.Broadcast()
	for c.head-c.read > lead && !c.rig.failed.Load() {
		c.moved.Wait()
	}
	return !c.rig.failed.Load()
}

// reads notes that a subscriber has read up to the event id.
func (c *topic) reads(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id > c.read {
		c.read = id
		c.moved.Broadcast()
	}
}

// wait waits until the topic has so many events. It reports whether to continue.
func (c *topic) wait(events int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.head < events && !c.ended && !c.rig.failed.Load() {
		c.moved.Wait()
	}
	return !c.rig.failed.Load()
}

func (c *topic) wakeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved.Broadcast()
}

// log returns the ids of the events that a query selects, and their sequences.
func (c *topic) log(query webtrigger.EventQuery) (ids, sequences []int64, err error) {
	query.ConversationID, query.Limit = c.id, 10_000
	for {
		page, err := c.store.Events(c.rig.t.Context(), query)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range page.Events {
			ids, sequences = append(ids, e.ID), append(sequences, e.Sequence)
		}
		if !page.More {
			return ids, sequences, nil
		}
		query.AfterID = ids[len(ids)-1]
	}
}
