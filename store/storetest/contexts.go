package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// A call whose context has ended before it started writes nothing and returns an
// error that wraps the context's. Watch, which lives until its context ends, has
// its own rules.
func contextRules() []rule {
	var rules []rule
	for _, c := range calls() {
		rules = append(rules, rule{c.name + " of an ended context does nothing", func(b *rig) {
			s := b.stage()
			before := b.world(s)
			cancelled, cancel := context.WithCancel(b.ctx)
			cancel()
			b.ErrorIs(c.call(cancelled, b.store, s), context.Canceled)
			expired, cancel := context.WithDeadline(b.ctx, time.Unix(1, 0))
			defer cancel()
			b.ErrorIs(c.call(expired, b.store, s), context.DeadlineExceeded)
			caused, end := context.WithCancelCause(b.ctx)
			end(errors.New("the host's own reason"))
			b.ErrorIs(c.call(caused, b.store, s), context.Canceled)
			b.Equal(before, b.world(s))
			b.Equal([]int64{s.pending.ID}, each(b.leased(10, long), func(d webtrigger.LeasedDelivery) int64 { return d.Delivery.ID }))
			b.NoError(c.call(b.ctx, b.store, s), "the suite's own: the call is good under a live context")
		}})
	}
	return rules
}

// stage is a store in which no call returns before it has used the store.
type stage struct {
	key       webtrigger.Key
	hash      webtrigger.KeyHash
	task      webtrigger.TaskDefinition
	queued    webtrigger.Run
	running   webtrigger.ClaimedRun
	stranded  webtrigger.ClaimedRun
	completed webtrigger.Run

	pending   webtrigger.Delivery // pending, not leased
	leased    webtrigger.LeasedDelivery
	sending   webtrigger.LeasedDelivery
	delivered webtrigger.LeasedDelivery
}

func (b *rig) stage() *stage {
	b.t.Helper()
	s := &stage{completed: b.complete(withCallback)}
	s.delivered = b.deliver()
	b.complete(withCallback)
	s.sending = b.claimDelivery()
	b.complete(withCallback)
	s.leased = b.lease(long)
	s.pending = b.deliveries(b.complete(withCallback).ID)[0]
	s.key, s.hash = b.key(assistant)
	s.task = b.task(assistant)
	s.stranded = b.strand()
	s.running = b.start()
	s.queued = b.accept(keyed("key", 1, long))
	return s
}

// world is all that can be read of a stage.
type world struct {
	Channel    webtrigger.Channel
	Assistants []string
	Keys       []webtrigger.Key
	Tasks      []webtrigger.TaskDefinition
	Runs       []record
}

func (b *rig) world(s *stage) (w world) {
	b.t.Helper()
	page := webtrigger.Page{Limit: 100}
	var errs [5]error
	w.Channel, errs[0] = b.store.Channel(b.ctx, assistant)
	w.Assistants, errs[1] = b.store.Assistants(b.ctx, "", 100)
	w.Keys, errs[2] = b.store.Keys(b.ctx, webtrigger.KeyQuery{AssistantID: assistant, Page: page})
	w.Tasks, errs[3] = b.store.TaskDefinitions(b.ctx, webtrigger.TaskDefinitionQuery{AssistantID: assistant, Page: page})
	runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: page})
	errs[4] = err
	b.all(errs[:])
	for _, run := range runs {
		w.Runs = append(w.Runs, b.record(run.ID))
	}
	b.Len(w.Runs, 7)
	return w
}

type call struct {
	name string
	call func(ctx context.Context, store webtrigger.Store, s *stage) error
}

// calls is every method of every role but Watch.
func calls() []call {
	page := webtrigger.Page{Limit: 10}
	return []call{
		{"Ping", func(ctx context.Context, store webtrigger.Store, _ *stage) error { return store.Ping(ctx) }},
		{"Channel", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.Channel(ctx, assistant))
		}},
		{"SetChannel", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return store.SetChannel(ctx, webtrigger.Channel{AssistantID: assistant, Enabled: true})
		}},
		{"SigningSecrets", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.SigningSecrets(ctx, assistant))
		}},
		{"SetSigningSecrets", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return store.SetSigningSecrets(ctx, assistant, []webtrigger.SigningSecret{webtrigger.NewSigningSecret()})
		}},
		{"Assistants", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.Assistants(ctx, "", 10))
		}},
		{"CreateKey", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.CreateKey(ctx, webtrigger.NewKey{AssistantID: assistant, Name: "New", Prefix: "0123abcd", Hash: newHash()}))
		}},
		{"Key", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.Key(ctx, s.key.ID))
		}},
		{"Keys", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.Keys(ctx, webtrigger.KeyQuery{AssistantID: assistant, Page: page}))
		}},
		{"RevokeKey", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.RevokeKey(ctx, s.key.ID))
		}},
		{"Authenticate", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.Authenticate(ctx, s.hash, s.queued.ConversationID, 0))
		}},
		{"CreateTaskDefinition", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.CreateTaskDefinition(ctx, definition(assistant)))
		}},
		{"Task", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.TaskDefinition(ctx, s.task.ID))
		}},
		{"Tasks", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.TaskDefinitions(ctx, webtrigger.TaskDefinitionQuery{AssistantID: assistant, Page: page}))
		}},
		{"UpdateTaskDefinition", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			task := s.task
			task.Name = "New"
			return second(store.UpdateTaskDefinition(ctx, task))
		}},
		{"DeleteTaskDefinition", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return store.DeleteTaskDefinition(ctx, s.task.ID)
		}},
		{"CreateTrigger", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.CreateTrigger(ctx, trigger(taking(worker), keyed("new", 1, long))))
		}},
		{"a replaying CreateTrigger", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.CreateTrigger(ctx, trigger(keyed("key", 1, long))))
		}},
		{"Replay", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.Replay(ctx, assistant, *use("key", 1, long)))
		}},
		{"Run", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.RunByID(ctx, s.queued.ID))
		}},
		{"RunByKey", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.RunByKey(ctx, s.queued.Key))
		}},
		{"Runs", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.Runs(ctx, webtrigger.RunQuery{Page: page}))
		}},
		{"RunInput", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.RunInput(ctx, s.queued.ID))
		}},
		{"Conversation", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.Conversation(ctx, s.queued.ConversationID))
		}},
		{"Conversations", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.Conversations(ctx, webtrigger.ConversationQuery{Page: page}))
		}},
		{"Messages", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.Messages(ctx, webtrigger.MessageQuery{ConversationID: s.queued.ConversationID, Limit: 10}))
		}},
		{"History", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.History(ctx, webtrigger.HistoryQuery{ConversationID: s.queued.ConversationID, BeforeRunID: absent, MaxMessages: 10, MaxBytes: 100}))
		}},
		{"RequestStop of a queued run", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.RequestStop(ctx, s.queued.ID, webtrigger.CancelStop(""), nil))
		}},
		{"RequestStop of a running run", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.RequestStop(ctx, s.running.Run.ID, webtrigger.CancelStop(""), nil))
		}},
		{"RequestStop under a lease", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.RequestStop(ctx, s.running.Run.ID, webtrigger.DeadlineStop(), &s.running.Lease))
		}},
		{"ClaimRuns", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.ClaimRuns(ctx, webtrigger.Claim{ProcessID: worker, Token: webtrigger.NewToken(), Limit: 10}))
		}},
		{"ClaimRuns of one run", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.ClaimRuns(ctx, webtrigger.Claim{ProcessID: worker, Token: webtrigger.NewToken(), Limit: 1, RunID: s.queued.ID}))
		}},
		{"RegisterProcess", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return store.RegisterProcess(ctx, webtrigger.Process{ID: "new", Lease: long, MaxAttempts: 1})
		}},
		{"RenewProcess", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.RenewProcess(ctx, webtrigger.Process{ID: worker, Lease: long, MaxAttempts: 1}))
		}},
		{"RemoveProcess", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return store.RemoveProcess(ctx, sweeper)
		}},
		{"AppendEvents", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return store.AppendEvents(ctx, s.running.Lease, steps(1, 2))
		}},
		{"Steps", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.Steps(ctx, s.running.Run.ID))
		}},
		{"FinishRun", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.FinishRun(ctx, s.running.Lease, webtrigger.Finish{Outcome: completed("Result"), Events: steps(1, 2)}))
		}},
		{"RequeueRun", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.RequeueRun(ctx, s.running.Lease, shutdown(steps(1, 2))))
		}},
		{"SweepRuns", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper, Limit: 10, Audit: true}))
		}},
		{"QueueState", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.QueueState(ctx))
		}},
		{"Events", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.Events(ctx, webtrigger.EventQuery{ConversationID: s.queued.ConversationID, Limit: 10}))
		}},
		{"LastEventIDs", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.LastEventIDs(ctx, []int64{s.queued.ConversationID}))
		}},
		{"LeaseDeliveries", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.LeaseDeliveries(ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: long, Limit: 10}))
		}},
		{"ClaimDelivery", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return store.ClaimDelivery(ctx, s.leased.Lease)
		}},
		{"ReturnDelivery", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return store.ReturnDelivery(ctx, s.sending.Lease)
		}},
		{"FinishDelivery", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return store.FinishDelivery(ctx, s.sending.Lease, delivered())
		}},
		{"SweepDeliveries", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.SweepDeliveries(ctx, time.Microsecond, 10))
		}},
		{"Delivery", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.Delivery(ctx, s.pending.ID))
		}},
		{"Deliveries", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.Deliveries(ctx, s.completed.ID))
		}},
		{"FindDeliveries", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.FindDeliveries(ctx, webtrigger.DeliveryFilter{Page: page}))
		}},
		{"CountDeliveries", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.CountDeliveries(ctx, webtrigger.DeliveryFilter{}, 10))
		}},
		{"CountRuns", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.CountRuns(ctx, webtrigger.RunQuery{}, 10))
		}},
		{"RunTexts", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.RunTexts(ctx, webtrigger.RunQuery{Page: page}, true))
		}},
		{"RunLabels", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.RunLabels(ctx, []int64{s.queued.ID}))
		}},
		{"EndCounts", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			now := time.Now().Truncate(time.Hour)
			_, _, err := store.EndCounts(ctx, webtrigger.StatsQuery{From: now, To: now.Add(time.Hour), Step: time.Hour})
			return err
		}},
		{"ErrorCounts", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.ErrorCounts(ctx, "", time.Now().Add(-time.Hour), 10))
		}},
		{"Audit", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.Audit(ctx, webtrigger.AuditQuery{Page: page}))
		}},
		{"Purge", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.Purge(ctx, webtrigger.Purge{Keep: webtrigger.Retention{Events: 1, Completed: 1}, Limit: 10}))
		}},
		{"RecordPass", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return store.RecordPass(ctx, webtrigger.Purged{Triggers: 1})
		}},
		{"DataState", func(ctx context.Context, store webtrigger.Store, _ *stage) error {
			return second(store.DataState(ctx))
		}},
		{"EraseTrigger", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return store.EraseTrigger(ctx, s.completed.ConversationID)
		}},
		{"Redeliver", func(ctx context.Context, store webtrigger.Store, s *stage) error {
			return second(store.Redeliver(ctx, s.delivered.Delivery.ID))
		}},
	}
}

// second returns the error of a call and ignores its result.
func second[T any](_ T, err error) error {
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}
