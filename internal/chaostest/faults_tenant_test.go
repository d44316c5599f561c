//go:build unix

package chaostest_test

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// underWay has an assistant's caller trigger a run at each replica that takes a moment,
// and returns them.
func (r *rig) underWay(a *caller, takes time.Duration) []*sent {
	runs := make([]*sent, len(r.replicas))
	var all sync.WaitGroup
	for i, x := range r.replicas {
		all.Go(func() { runs[i] = r.load.send(a, work{takes: takes}, func() *replica { return x }) })
	}
	all.Wait()
	for _, s := range runs {
		require.NotNil(r, s)
	}
	return runs
}

func (r *rig) transaction() bun.Tx {
	r.Helper()
	tx, err := r.db.BeginTx(context.WithoutCancel(r.Context()), nil)
	require.NoError(r, err)
	return tx
}

// lockedRows are rows of one assistant that another program has locked: of its runs,
// queued ones and those under way at each replica, its callbacks, pending ones and those
// that are being sent, its key and settings.
func lockedRows(lasts time.Duration) *fault {
	var tx bun.Tx
	return &fault{name: "locked rows", lasts: lasts, slow: true, about: tenants,
		begin: func(r *rig) {
			a := r.load.assistants[lockedAssistant]
			late := func() string { return r.receivers.slow.URL + "/" }
			var all sync.WaitGroup
			for range len(r.replicas) * (senders + 2) {
				all.Go(func() { r.load.sendTo(a, a.name(), work{}, late, r.load.next) })
			}
			all.Wait()
			tx = r.transaction()
			r.lockQueued(a, tx)
			r.lockRunning(a, tx)
			for _, text := range []string{
				`SELECT FROM webtrigger_deliveries WHERE assistant_id = ? AND state <> 'delivered' FOR UPDATE`,
				`SELECT FROM webtrigger_api_keys WHERE assistant_id = ? FOR UPDATE`,
				`SELECT FROM webtrigger_channels WHERE assistant_id = ? FOR UPDATE`,
			} {
				_, err := tx.ExecContext(r.Context(), text, a.id)
				require.NoError(r, err)
			}
		},
		end: func(r *rig) { require.NoError(r, tx.Rollback()) },
	}
}

// lockQueued has runs of an assistant wait in the queue, and a transaction lock them. A
// commit queues more of them than all replicas have slots.
func (r *rig) lockQueued(a *caller, tx bun.Tx) {
	for range 10 {
		host := r.transaction()
		for range 45 {
			_, err := r.service.TriggerVia(r.Context(), r.store.Tx(host), a.id, webtrigger.TriggerRequest{Message: short.message(a.name())})
			require.NoError(r, err)
		}
		require.NoError(r, host.Commit())
		const text = `SELECT count(*) FROM (SELECT FROM webtrigger_queue WHERE assistant_id = ? AND state = 'q' FOR UPDATE SKIP LOCKED) q`
		if r.locked(tx, text, a) >= 8 {
			return
		}
	}
	require.Fail(r, "the replicas claim runs faster than a transaction locks them")
}

// lockRunning has a transaction lock runs of an assistant that are under way, at least one
// at each replica.
func (r *rig) lockRunning(a *caller, tx bun.Tx) {
	for range 5 {
		r.underWay(a, lease)
		const text = `SELECT count(DISTINCT process_id) FROM (SELECT process_id FROM webtrigger_queue WHERE assistant_id = ? AND state = 'r' FOR UPDATE) q`
		if r.locked(tx, text, a) == len(r.replicas) {
			return
		}
	}
	require.Fail(r, "a replica has no run to lock")
}

func (r *rig) locked(tx bun.Tx, text string, a *caller) (n int) {
	require.NoError(r, tx.NewRaw(text, a.id).Scan(r.Context(), &n))
	return n
}

// openTransactions are transactions of a host that stay open: one continues the
// conversation of a run that is under way, another one holds an idempotency key that
// callers use.
func openTransactions(lasts time.Duration) *fault {
	var continuing, holding bun.Tx
	var waiting sync.WaitGroup
	return &fault{name: "open host transactions", lasts: lasts, slow: true, about: tenants,
		begin: func(r *rig) {
			a := r.load.assistants[openAssistant]
			key, _ := r.load.ack(r.underWay(a, 1200*time.Millisecond)[0])
			run, err := r.store.RunByKey(r.Context(), key)
			require.NoError(r, err)
			continuing = r.transaction()
			_, err = r.service.TriggerVia(r.Context(), r.store.Tx(continuing), a.id,
				webtrigger.TriggerRequest{Message: short.message(a.name()), ConversationID: run.ConversationID})
			require.NoError(r, err)

			holding = r.transaction()
			name := a.name()
			_, err = r.store.Tx(holding).CreateTrigger(r.Context(), webtrigger.NewTrigger{
				RunKey: uuid.NewString(), AssistantID: a.id, BaseURL: "https://app.example.com",
				Input:       webtrigger.RunInput{Subject: "s", Message: short.message(name)},
				Idempotency: &webtrigger.Idempotency{Key: name, TTL: time.Hour},
			})
			require.NoError(r, err)
			for _, x := range r.replicas {
				waiting.Go(func() { r.load.sendAs(a, name, short, func() *replica { return x }) })
			}
		},
		end: func(r *rig) {
			assert.NoError(r.T, continuing.Commit())
			assert.NoError(r.T, holding.Rollback()) // the first of the callers gets the key
			waiting.Wait()
		},
	}
}
