package streamtest

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/webtrigger-go/webtrigger"
)

// topic is one conversation: two runs whose events one writer appends.
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
	topic.head = 4 // each run was queued and started
	return topic
}

// begin accepts and takes a run.
func (c *topic) begin() *run {
	t := c.rig.t
	t.Helper()
	process := webtrigger.Process{ID: "streamtest", Lease: 24 * time.Hour, MaxAttempts: 1}
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
	claimed, err := c.store.ClaimRuns(t.Context(), webtrigger.Claim{ProcessID: take.ProcessID, Token: take.Token, Limit: 1, RunID: accepted.Run.ID})
	if err != nil || len(claimed) != 1 {
		t.Fatalf("claim a run: %v, %v", claimed, err)
	}
	return &run{Run: claimed[0].Run, lease: claimed[0].Lease}
}

// write appends n events in batches to the runs, then ends them one after the
// other.
func (c *topic) write(n int) {
	for left := n; left > 0; {
		size := min(1+c.rig.n(20), left)
		left -= size
		r := c.runs[c.rig.n(len(c.runs))]
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
			return
		}
	}
	for _, r := range c.runs {
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
