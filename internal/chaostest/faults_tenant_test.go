//go:build unix && chaos

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

// underWay has an assistant's caller trigger runs that take a moment, and returns them.
func (r *rig) underWay(a *caller, n int) []*sent {
	runs := make([]*sent, n)
	var all sync.WaitGroup
	for i := range runs {
		all.Go(func() { runs[i] = r.load.send(a, 1200*time.Millisecond, r.load.next) })
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
// callbacks, key and settings.
func lockedRows(lasts time.Duration) *fault {
	var tx bun.Tx
	return &fault{name: "locked rows", lasts: lasts, slow: true, about: tenants,
		begin: func(r *rig) {
			a := r.load.assistants[lockedAssistant]
			r.underWay(a, 3)
			tx = r.transaction()
			for _, text := range []string{
				`SELECT FROM webtrigger_queue WHERE assistant_id = ? FOR UPDATE`,
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

// openTransactions are transactions of a host that stay open: one continues the
// conversation of a run that is under way, another one holds an idempotency key that
// callers use.
func openTransactions(lasts time.Duration) *fault {
	var continuing, holding bun.Tx
	var waiting sync.WaitGroup
	return &fault{name: "open host transactions", lasts: lasts, slow: true, about: tenants,
		begin: func(r *rig) {
			a := r.load.assistants[lockedAssistant]
			key, _ := r.load.ack(r.underWay(a, 1)[0])
			run, err := r.store.RunByKey(r.Context(), key)
			require.NoError(r, err)
			continuing = r.transaction()
			_, err = r.service.TriggerVia(r.Context(), r.store.Tx(continuing), a.id,
				webtrigger.TriggerRequest{Message: a.name() + " 30ms", ConversationID: run.ConversationID})
			require.NoError(r, err)

			holding = r.transaction()
			name := a.name()
			_, err = r.store.Tx(holding).CreateTrigger(r.Context(), webtrigger.NewTrigger{
				RunKey: uuid.NewString(), AssistantID: a.id, BaseURL: "https://app.example.com",
				Input:       webtrigger.RunInput{Subject: "s", Message: name + " 30ms"},
				Idempotency: &webtrigger.Idempotency{Key: name, TTL: time.Hour},
			})
			require.NoError(r, err)
			for _, x := range r.replicas {
				waiting.Go(func() { r.load.sendAs(a, name, 30*time.Millisecond, func() *replica { return x }) })
			}
		},
		end: func(r *rig) {
			assert.NoError(r.T, continuing.Commit())
			assert.NoError(r.T, holding.Rollback()) // the first of the callers gets the key
			waiting.Wait()
		},
	}
}

// slowReceiver is a receiver of one assistant that takes seconds to answer.
func slowReceiver(lasts time.Duration) *fault {
	return &fault{name: "slow receiver", lasts: lasts, slow: true, about: tenants,
		begin: func(r *rig) { r.divert(slowAssistant, lasts, func() string { return r.receivers.slow.URL + "/" }) },
		end:   func(r *rig) { r.load.assistants[slowAssistant].url.Store(nil) },
	}
}

// deadReceivers are receivers of one assistant that do not respond, on several hosts.
func deadReceivers(lasts time.Duration) *fault {
	return &fault{name: "dead receivers", lasts: lasts, slow: true, about: tenants,
		begin: func(r *rig) { r.divert(silentAssistant, lasts, r.receivers.dead) },
		end:   func(r *rig) { r.load.assistants[silentAssistant].url.Store(nil) },
	}
}

// divert has an assistant's callbacks go elsewhere: for as long as the fault lasts, those
// of more runs than all replicas together have senders.
func (r *rig) divert(assistant int, lasts time.Duration, url func() string) {
	a := r.load.assistants[assistant]
	a.url.Store(&url)
	for range 3 * senders * max(int(lasts/(8*time.Second)), 1) {
		r.load.under.Go(func() { r.load.send(a, 0, r.load.next) })
	}
}
