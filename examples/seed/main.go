// Command seed fills a new SQLite file with the runs of a month, so that the console shows
// what operators meet: several assistants, keys and tasks, errors, retried and failed
// callbacks, conversations, and a queue.
//
//	go run ./examples/seed -db seed.db
//	go run ./examples/server -db sqlite:seed.db -workers 0
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

func main() {
	file := flag.String("db", "seed.db", "the new SQLite file")
	runs := flag.Int("runs", 3000, "how many runs")
	days := flag.Int("days", 30, "over how many days until now")
	flag.Parse()
	if err := fill(context.Background(), *file, *runs, time.Duration(*days)*24*time.Hour); err != nil {
		log.Fatal("seed: ", err)
	}
	fmt.Printf("%s has %d runs. Show them:\n\n  go run ./examples/server -db sqlite:%[1]s -workers 0\n", *file, *runs)
}

// fill creates a file with runs of the time until now. It does not change one that exists.
func fill(ctx context.Context, file string, runs int, past time.Duration) error {
	created, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	created.Close()
	pool, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	if err != nil {
		return err
	}
	db := bun.NewDB(pool, sqlitedialect.New())
	defer db.Close()
	clock := &clock{now: time.Now().Add(-past)}
	store, err := bunstore.New(db, &bunstore.Options{Clock: clock})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	s := &seeder{ctx: ctx, store: store, clock: clock, rand: rand.New(rand.NewPCG(1, 2)), pause: past / time.Duration(runs+1)}
	if err := s.furnish(); err != nil {
		return err
	}
	for i := range runs {
		if err := s.run(i, runs-i); err != nil {
			return fmt.Errorf("run %d: %w", i+1, err)
		}
	}
	return nil
}

// clock is the time of the store, which the seeder moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Elapsed makes leases last: the month passes in an instant.
func (c *clock) Elapsed() time.Duration { return time.Hour }

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type seeder struct {
	ctx   context.Context
	store *bunstore.Store
	clock *clock
	rand  *rand.Rand
	pause time.Duration // between two runs
	keys  []webtrigger.Key
	tasks []webtrigger.TaskDefinition
}

const process = "seed"

// furnish creates what runs need.
func (s *seeder) furnish() error {
	names := map[string][]string{"1": {"Zapier", "CI pipeline", "CRM"}, "2": {"n8n", "Nightly job"}}
	for _, id := range []string{"1", "2"} {
		if err := s.store.SetChannel(s.ctx, webtrigger.Channel{AssistantID: id, Enabled: true, AllowCallbackURLs: true}); err != nil {
			return err
		}
		for _, name := range names[id] {
			key, err := s.store.CreateKey(s.ctx, webtrigger.NewKey{AssistantID: id, Name: name, Prefix: fmt.Sprintf("%08x", s.rand.Uint32()), Hash: s.hash(), Scopes: webtrigger.DefaultScopes()})
			if err != nil {
				return err
			}
			s.keys = append(s.keys, key)
		}
		for _, name := range []string{"Weekly report", "Extract the total", "Triage a ticket"} {
			task, err := s.store.CreateTaskDefinition(s.ctx, webtrigger.TaskDefinition{AssistantID: id, Name: name, Instructions: name + ".",
				OutputType: webtrigger.OutputMarkdown, Active: true})
			if err != nil {
				return err
			}
			s.tasks = append(s.tasks, task)
		}
	}
	return s.store.RegisterProcess(s.ctx, webtrigger.Process{ID: process, Lease: 24 * time.Hour, MaxAttempts: 1})
}

func (s *seeder) hash() (hash webtrigger.KeyHash) {
	for i := range hash {
		hash[i] = byte(s.rand.Uint32())
	}
	return hash
}

var subjects = []string{"Order %d is late", "Invoice %d", "Ticket %d: cannot sign in", "Report for week %d", "Lead %d from the website", "تذكرة %d"}

var failures = []string{"The model does not answer: 529 overloaded.", "The result does not satisfy the schema: /total is missing.",
	"Tool search_knowledge failed 3 times: connection refused.", "The model used all of its steps."}

var receivers = []string{"hooks.zapier.example:443", "n8n.example:443", "crm.example:443", "old.example:443"}

const queued = 8 // runs

// run creates one run and ends it, unless it is one of the last, which stay queued.
func (s *seeder) run(i, left int) error {
	s.clock.move(time.Duration(s.rand.Int64N(int64(2 * s.pause))))
	if now := time.Now(); s.clock.Now().After(now) {
		s.clock.move(now.Sub(s.clock.Now()))
	}
	key := s.keys[s.rand.IntN(len(s.keys))]
	number := 1000 + s.rand.IntN(400)
	trigger := webtrigger.NewTrigger{RunKey: uuid.Must(uuid.NewV7()).String(), AssistantID: key.AssistantID, KeyID: key.ID, BaseURL: "http://127.0.0.1:8080",
		RequestID: uuid.NewString(), Input: webtrigger.RunInput{Subject: fmt.Sprintf(subjects[i%len(subjects)], number),
			Message: fmt.Sprintf("Please handle number %d.", number), Metadata: fmt.Appendf(nil, `{"customer": "C-%d"}`, number%97)}}
	if i%3 == 0 {
		trigger.ConversationKey = fmt.Sprintf("customer C-%d", number%97)
	}
	if task := s.tasks[s.rand.IntN(len(s.tasks))]; task.AssistantID == key.AssistantID {
		trigger.TaskDefinition = &task
	}
	if s.rand.IntN(3) > 0 && left > queued { // a server that executes the queue calls no receiver
		trigger.CallbackHost = receivers[s.rand.IntN(len(receivers))]
		trigger.CallbackURL = "https://" + trigger.CallbackHost[:len(trigger.CallbackHost)-4] + "/hook"
	}
	created, err := s.store.CreateTrigger(s.ctx, trigger)
	if err != nil || left <= queued {
		return err
	}
	claimed, err := s.store.ClaimRuns(s.ctx, webtrigger.Claim{ProcessID: process, Token: webtrigger.NewToken(), Limit: 1, RunID: created.Run.ID})
	if err != nil || len(claimed) == 0 {
		return err
	}
	s.clock.move(time.Duration(s.rand.ExpFloat64() * float64(4*time.Second)))
	if _, err := s.store.FinishRun(s.ctx, claimed[0].Lease, webtrigger.Finish{Outcome: s.outcome()}); err != nil {
		return err
	}
	return s.deliver(trigger.CallbackHost)
}

func (s *seeder) outcome() webtrigger.Outcome {
	usage := &webtrigger.Usage{InputTokens: 200 + s.rand.Int64N(3000), OutputTokens: 20 + s.rand.Int64N(500)}
	switch n := s.rand.IntN(100); {
	case n < 6:
		return webtrigger.Outcome{Status: webtrigger.RunFailed, ErrorMessage: failures[s.rand.IntN(s.rand.IntN(len(failures))+1)], Usage: usage}
	case n < 7:
		return webtrigger.HeartbeatTimeout()
	case n < 9:
		return webtrigger.Outcome{Status: webtrigger.RunCancelled, StatusDetail: "no longer needed"}
	}
	return webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "**Done.** The order is on its way.", Usage: usage}
}

// deliver ends the pending callback. One receiver fails often.
func (s *seeder) deliver(host string) error {
	if host == "" {
		return nil
	}
	leased, err := s.store.LeaseDeliveries(s.ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: time.Hour, Limit: 1})
	if err != nil || len(leased) == 0 {
		return err
	}
	if err := s.store.ClaimDelivery(s.ctx, leased[0].Lease); err != nil {
		return err
	}
	s.clock.move(time.Duration(20+s.rand.IntN(300)) * time.Millisecond)
	outcome := webtrigger.DeliveryOutcome{State: webtrigger.DeliveryDelivered, HTTPStatus: 200, Latency: time.Duration(20+s.rand.IntN(300)) * time.Millisecond}
	if host == receivers[3] && s.rand.IntN(3) > 0 || s.rand.IntN(60) == 0 {
		outcome = webtrigger.DeliveryOutcome{State: webtrigger.DeliveryFailed, HTTPStatus: 503, Latency: 900 * time.Millisecond,
			FailureClass: webtrigger.FailureStatus, Error: "the receiver did not answer with 2xx", Response: "maintenance"}
	}
	return s.store.FinishDelivery(s.ctx, leased[0].Lease, outcome)
}
