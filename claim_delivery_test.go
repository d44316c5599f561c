package webtrigger_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// onFaulty is bubble on a store with faults. posts counts the POSTs of callbacks.
func onFaulty(t *testing.T, runner webtrigger.RunnerFunc, opts webtrigger.Options, f func(b *bundle, store *faultyStore, posts *atomic.Int32)) {
	t.Helper()
	var store *faultyStore
	wrap := func(s webtrigger.Store) webtrigger.Store { store = faulty(s); return store }
	bubbleOn(t, wrap, runner, opts, func(b *bundle) {
		var posts atomic.Int32
		b.svc.StubCallbacks(func() error { return nil }, func([]byte) (int, error) { posts.Add(1); return 204, nil })
		f(b, store, &posts)
	})
}

// delivery returns the only delivery of a run.
func (b *bundle) delivery(runID int64) webtrigger.Delivery {
	b.t.Helper()
	all, err := b.store.Deliveries(b.ctx, runID)
	require.NoError(b.t, err)
	require.Len(b.t, all, 1)
	return all[0]
}

// once is a fault of the first call only.
func once(f fault) fault {
	var n atomic.Int32
	return func(ctx context.Context, do func() error) error {
		if n.Add(1) == 1 {
			return f(ctx, do)
		}
		return do()
	}
}

func TestClaimDelivery_unknownOutcome_sendsOnce(t *testing.T) {
	t.Parallel()
	plain := func(f fault) func() (fault, func()) { return func() (fault, func()) { return f, func() {} } }
	tests := map[string]struct {
		fault func() (f fault, commit func())
		lasts time.Duration // of the fault; then its calls commit
		sent  time.Duration // when the POST is sent, at the latest
	}{
		"the store is unavailable for a moment":               {plain(away), time.Second, 3 * time.Second},
		"an answer is lost":                                   {plain(once(unanswered)), time.Second, 3 * time.Second},
		"the commit stalls":                                   {stalled, 5 * time.Second, 9 * time.Second},
		"the store is unavailable for longer than an attempt": {plain(away), 30 * time.Second, 50 * time.Second},
		"answers are lost for longer than an attempt":         {plain(unanswered), 30 * time.Second, 50 * time.Second},
		"the commit stalls for longer than an attempt":        {stalled, 12 * time.Second, 50 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
				stop := b.work()
				f, commit := test.fault()
				store.set(f, "ClaimDelivery")
				run := b.triggerWithCallback("say x", hook)
				time.Sleep(test.lasts)
				store.set(nil, "ClaimDelivery")
				commit()
				time.Sleep(test.sent - test.lasts)
				synctest.Wait()
				require.EqualValues(b.t, 1, posts.Load())
				time.Sleep(3 * time.Minute)
				stop()
				require.EqualValues(b.t, 1, posts.Load())
				require.Equal(b.t, webtrigger.DeliveryDelivered, b.delivery(run.ID).State)
			})
		})
	}
}

func TestClaimDelivery_leaseLost_sendsAndReturnsNothing(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
		stop := b.work()
		store.set(refused(webtrigger.ErrLeaseLost), "ClaimDelivery")
		run := b.triggerWithCallback("say x", hook)
		time.Sleep(5 * time.Second)
		require.Equal(b.t, 1, store.count("ClaimDelivery"))
		stop()
		require.Zero(b.t, posts.Load())
		require.Zero(b.t, store.count("ReturnDelivery"))
		require.Equal(b.t, webtrigger.DeliveryPending, b.delivery(run.ID).State)
	})
}

// A claim that is stored after its attempt was over is returned, also when the sweep
// has already marked it unknown.
func TestReturnDelivery_storeUnavailable_isRepeatedWithoutASender(t *testing.T) {
	opts := webtrigger.Options{Callback: webtrigger.CallbackOptions{Workers: 1}}
	onFaulty(t, nil, opts, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
		stop := b.work()
		store.set(unanswered, "ClaimDelivery")
		store.set(away, "ReturnDelivery")
		first := b.triggerWithCallback("say x", hook)
		time.Sleep(12 * time.Second)
		store.set(nil, "ClaimDelivery")
		second := b.triggerWithCallback("say x", "https://203.0.114.2/")
		synctest.Wait()
		require.Equal(b.t, webtrigger.DeliveryDelivered, b.delivery(second.ID).State, "the only sender is free")
		time.Sleep(80 * time.Second)
		require.Equal(b.t, webtrigger.DeliveryUnknown, b.delivery(first.ID).State)
		require.EqualValues(b.t, 1, posts.Load())
		store.set(nil, "ReturnDelivery")
		time.Sleep(3 * time.Second)
		require.Equal(b.t, webtrigger.DeliveryDelivered, b.delivery(first.ID).State)
		require.EqualValues(b.t, 2, posts.Load())
		stop()
	})
}

func TestReturnDelivery_duringDrain_isBounded(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
		stop := b.work()
		store.set(unanswered, "ClaimDelivery")
		store.set(away, "ReturnDelivery")
		run := b.triggerWithCallback("say x", hook)
		synctest.Wait()
		began := time.Now()
		stop()
		require.LessOrEqual(b.t, time.Since(began), 22*time.Second)
		require.Zero(b.t, posts.Load())
		require.Equal(b.t, webtrigger.DeliverySending, b.delivery(run.ID).State)
	})
}

func TestFinishDelivery_storeUnavailable_isRepeatedWithoutASender(t *testing.T) {
	opts := webtrigger.Options{Callback: webtrigger.CallbackOptions{Workers: 1}}
	onFaulty(t, nil, opts, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
		stop := b.work()
		store.set(away, "FinishDelivery")
		first := b.triggerWithCallback("say x", hook)
		b.triggerWithCallback("say x", "https://203.0.114.2/")
		time.Sleep(2 * time.Second)
		require.EqualValues(b.t, 2, posts.Load(), "the only sender does not wait")
		time.Sleep(2 * time.Minute)
		require.Equal(b.t, webtrigger.DeliveryUnknown, b.delivery(first.ID).State)
		store.set(nil, "FinishDelivery")
		time.Sleep(2 * time.Second)
		require.Equal(b.t, webtrigger.DeliveryDelivered, b.delivery(first.ID).State, "a late outcome replaces unknown")
		stop()
		require.EqualValues(b.t, 2, posts.Load())
	})
}

func TestFinishDelivery_otherError_isGivenUp(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, posts *atomic.Int32) {
		stop := b.work()
		store.set(refused(errors.New("value is too long")), "FinishDelivery")
		b.triggerWithCallback("say x", hook)
		time.Sleep(time.Minute)
		require.Equal(b.t, 10, store.count("FinishDelivery"))
		stop()
		require.EqualValues(b.t, 1, posts.Load())
	})
}
