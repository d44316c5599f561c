package webtrigger_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// gauge counts what is under way at once.
type gauge struct {
	mu             sync.Mutex
	now, most, all map[string]int
	total, peak    int
}

func newGauge() *gauge {
	return &gauge{now: make(map[string]int), most: make(map[string]int), all: make(map[string]int)}
}

func (g *gauge) enter(url string) (leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now[url]++
	g.all[url]++
	g.total++
	g.most[url] = max(g.most[url], g.now[url])
	g.peak = max(g.peak, g.total)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.now[url]--
		g.total--
	}
}

func (g *gauge) count(url string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all[url]
}

// owe lets n runs end that owe a callback each, whether or not anybody works.
func (b *bundle) owe(n int, url string) []webtrigger.Run {
	b.t.Helper()
	var runs []webtrigger.Run
	for range n {
		run := b.triggerWithCallback("say x", url)
		_, err := b.svc.CancelRun(b.ctx, run.ID, "")
		require.NoError(b.t, err)
		runs = append(runs, run)
	}
	return runs
}

// Three receivers swallow their callbacks for 10 seconds each and have hundreds
// owed before anybody else. The others get theirs at once.
func TestSlowReceiversHoldUpNoOther(t *testing.T) {
	opts := webtrigger.Options{Callback: webtrigger.CallbackOptions{Workers: 8, PerHost: 2}}
	bubble(t, nil, opts, func(b *bundle) {
		g := newGauge()
		const slow, quick = "https://203.0.114.%d/", "https://203.0.114.%d:8443/"
		b.svc.StubReceivers(func(string) error { return nil }, func(e webtrigger.Exchange) (*egress.Response, error) {
			leave := g.enter(e.URL)
			defer leave()
			var host int
			if n, _ := fmt.Sscanf(e.URL, quick, &host); n == 1 && e.URL == fmt.Sprintf(quick, host) {
				time.Sleep(10 * time.Millisecond)
			} else {
				time.Sleep(9 * time.Second)
			}
			return status(204), nil
		})
		for host := range 3 {
			b.owe(100, fmt.Sprintf(slow, host+1))
		}
		stop := b.work()
		time.Sleep(20 * time.Second) // the slow ones have taken what they get
		before := time.Now()
		var last []webtrigger.Run
		for host := range 10 {
			last = append(last, b.owe(20, fmt.Sprintf(quick, host+1))...)
		}
		for {
			synctest.Wait()
			left := 0
			for _, run := range last {
				if b.run(run.ID).Callback.DeliveryID == 0 {
					left++
				}
			}
			if left == 0 {
				break
			}
			require.Less(b.t, time.Since(before), 10*time.Second, "%d wait", left)
			time.Sleep(100 * time.Millisecond)
		}
		require.Less(b.t, time.Since(before), 5*time.Second)
		time.Sleep(25 * time.Minute)
		stop()
		require.LessOrEqual(b.t, g.peak, 8)
		for url, most := range g.most {
			require.LessOrEqual(b.t, most, 2, url)
		}
		for host := range 3 {
			require.Equal(b.t, 100, g.count(fmt.Sprintf(slow, host+1)))
			require.Equal(b.t, 2, g.most[fmt.Sprintf(slow, host+1)], "a slow host uses its share")
		}
		for host := range 10 {
			require.Equal(b.t, 20, g.count(fmt.Sprintf(quick, host+1)))
		}
	})
}

// Even when slow receivers have all senders, the next one that is free goes to
// whoever has none.
func TestAFreeSenderGoesToTheHostWithTheFewest(t *testing.T) {
	opts := webtrigger.Options{Callback: webtrigger.CallbackOptions{Workers: 4, PerHost: 4}}
	bubble(t, nil, opts, func(b *bundle) {
		var mu sync.Mutex
		var order []string
		b.svc.StubReceivers(func(string) error { return nil }, func(e webtrigger.Exchange) (*egress.Response, error) {
			mu.Lock()
			order = append(order, e.URL)
			mu.Unlock()
			time.Sleep(time.Second)
			return status(204), nil
		})
		const a, other = "https://203.0.114.1/", "https://203.0.114.2/"
		b.owe(50, a)
		stop := b.work()
		b.owe(3, other)
		time.Sleep(2500 * time.Millisecond)
		mu.Lock()
		got := append([]string(nil), order[4:8]...)
		mu.Unlock()
		stop()
		require.ElementsMatch(b.t, []string{other, other, a, a}, got, "halves, though 46 wait for one and 3 for the other")
	})
}

// leasing counts how often deliveries are asked for.
type leasing struct {
	webtrigger.Store
	calls atomic.Int64
}

func (l *leasing) LeaseDeliveries(ctx context.Context, claim webtrigger.DeliveryQuery) ([]webtrigger.LeasedDelivery, error) {
	l.calls.Add(1)
	return l.Store.LeaseDeliveries(ctx, claim)
}

// While more is owed than there are senders, one lease is for several of them. One
// that stays alone does not wait for the others.
func TestSendersLeaseTogether(t *testing.T) {
	opts := webtrigger.Options{Callback: webtrigger.CallbackOptions{Workers: 16, PerHost: 16}}
	store := &leasing{}
	wrap := func(s webtrigger.Store) webtrigger.Store { store.Store = s; return store }
	bubbleOn(t, wrap, nil, opts, func(b *bundle) {
		g := newGauge()
		b.svc.StubReceivers(func(string) error { return nil }, func(e webtrigger.Exchange) (*egress.Response, error) {
			leave := g.enter(e.URL)
			defer leave()
			if strings.HasSuffix(e.URL, "/stuck") {
				<-time.After(9 * time.Second)
			}
			g.mu.Lock()
			nth := g.all[e.URL]
			g.mu.Unlock()
			<-time.After(16*time.Millisecond + time.Duration(nth%16)*time.Millisecond) // never two at once
			return status(204), nil
		})
		const url = "https://203.0.114.1/"
		b.owe(320, url)
		stop := b.work()
		<-time.After(2 * time.Second)
		require.Equal(b.t, 320, g.count(url))
		require.Equal(b.t, 16, g.most[url])
		require.Less(b.t, store.calls.Load(), int64(320/3))

		b.owe(15, url+"stuck")
		<-time.After(time.Second)
		before := g.count(url)
		b.owe(20, url)
		<-time.After(time.Second) // 16 to 31 ms each, and 10 ms for what never comes
		require.Equal(b.t, before+20, g.count(url))
		<-time.After(20 * time.Second)
		stop()
	})
}

// A host that gives no answer: its retries rest, and one at a time finds out
// whether it is back. First attempts go on all the while.
func TestRetriesOfADeadHostRest(t *testing.T) {
	const runs = 40
	opts := retrying(time.Second, time.Second, time.Second, time.Second, time.Second, time.Second, time.Second, time.Second)
	bubble(t, nil, opts, func(b *bundle) {
		var mu sync.Mutex
		dead := true
		got := b.answering(func(string, int) (*egress.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			if dead {
				return nil, nil
			}
			return status(200), nil
		})
		stop := b.work()
		for i := range runs {
			b.owe(1, hook)
			time.Sleep(time.Minute)
			deliveries, err := b.svc.Deliveries(b.ctx, int64(i+1))
			require.NoError(b.t, err)
			require.False(b.t, deliveries[0].CompletedAt.IsZero(), "the first attempt of run %d was held back", i+1)
			require.Less(b.t, deliveries[0].CompletedAt.Sub(deliveries[0].CreatedAt), time.Second)
		}
		// Without a circuit it would be 9 attempts a run: 360.
		tried := len(got.times(hook))
		require.Less(b.t, tried, runs+40)
		require.Greater(b.t, tried, runs+4, "some retries find out whether it is back")

		// What rests is held by nobody: an operator's word moves it at once.
		waiting, err := b.svc.Deliveries(b.ctx, runs)
		require.NoError(b.t, err)
		require.Equal(b.t, webtrigger.DeliveryPending, waiting[len(waiting)-1].State)
		_, err = b.svc.Redeliver(b.ctx, waiting[0].ID)
		require.NoError(b.t, err)
		time.Sleep(time.Second)
		require.Len(b.t, got.times(hook), tried+1)

		mu.Lock()
		dead = false
		mu.Unlock()
		b.owe(1, hook) // its answer revives the host
		time.Sleep(time.Minute)
		stop()
		for i := range runs {
			callback := b.run(int64(i + 1)).Callback
			deliveries, err := b.svc.Deliveries(b.ctx, int64(i+1))
			require.NoError(b.t, err)
			if len(deliveries) <= 8 {
				require.Equal(b.t, webtrigger.DeliveryDelivered, callback.State, "run %d: nothing is dropped", i+1)
			}
		}
	})
}

// A dead host without first attempts is found out by one retry at a time.
func TestOneRetryFindsOutWhetherAHostIsBack(t *testing.T) {
	bubble(t, nil, retrying(time.Second, time.Second, time.Second, time.Second), func(b *bundle) {
		var mu sync.Mutex
		dead := true
		got := b.answering(func(string, int) (*egress.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			if dead {
				return nil, nil
			}
			return status(200), nil
		})
		stop := b.work()
		runs := b.owe(20, hook)
		time.Sleep(20 * time.Second)
		first := len(got.times(hook))
		require.LessOrEqual(b.t, first, 20+8, "twenty first attempts, and what retries had begun until then")
		time.Sleep(20 * time.Second)
		require.Equal(b.t, first+1, len(got.times(hook)), "one retry has found out that it is still dead")
		mu.Lock()
		dead = false
		mu.Unlock()
		time.Sleep(3 * time.Minute)
		stop()
		for _, run := range runs {
			require.Equal(b.t, webtrigger.DeliveryDelivered, b.run(run.ID).Callback.State)
		}
	})
}

// What a process owed and had leased when it died is sent by another, once.
func TestOwedCallbacksSurviveTheirProcess(t *testing.T) {
	bubble(t, nil, webtrigger.Options{}, func(b *bundle) {
		runs := b.owe(5, hook)
		_, err := b.store.LeaseDeliveries(b.ctx, webtrigger.DeliveryQuery{Lease: 15 * time.Second, Limit: 3})
		require.NoError(b.t, err)
		got := b.answering(func(string, int) (*egress.Response, error) { return status(200), nil })
		stop := b.work()
		time.Sleep(time.Second)
		require.Len(b.t, got.times(hook), 2, "three are leased to the dead process")
		time.Sleep(20 * time.Second)
		stop()
		require.Len(b.t, got.times(hook), 5)
		for _, run := range runs {
			require.Equal(b.t, webtrigger.DeliveryDelivered, b.run(run.ID).Callback.State)
		}
	})
}

// Work does not return before the callbacks under way have ended, sends those
// that are owed by then, and waits for no retry.
func TestDrainSendsWhatIsOwed(t *testing.T) {
	opts := retrying(time.Minute)
	opts.Callback.Workers, opts.Callback.PerHost = 4, 1
	bubble(t, nil, opts, func(b *bundle) {
		g := newGauge()
		b.svc.StubReceivers(func(string) error { return nil }, func(e webtrigger.Exchange) (*egress.Response, error) {
			defer g.enter(e.URL)()
			time.Sleep(time.Second)
			return status(500), nil
		})
		stop := b.work()
		runs := b.owe(6, hook)
		began := time.Now()
		stop()
		require.Less(b.t, time.Since(began), 20*time.Second)
		require.Equal(b.t, 6, g.count(hook), "one at a time, but all")
		require.Zero(b.t, g.total)
		for _, run := range runs {
			all, err := b.svc.Deliveries(b.ctx, run.ID)
			require.NoError(b.t, err)
			require.Len(b.t, all, 2)
			require.Equal(b.t, webtrigger.DeliveryPending, all[1].State)
		}
	})
}

// slowLeases answers late, like a database whose commit takes its time. A caller
// that does not wait hears nothing of what it has leased.
type slowLeases struct{ webtrigger.Store }

func (s slowLeases) LeaseDeliveries(ctx context.Context, claim webtrigger.DeliveryQuery) ([]webtrigger.LeasedDelivery, error) {
	owed, err := s.Store.LeaseDeliveries(ctx, claim)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Second):
		return owed, err
	}
}

// A run's last moment is the drain's: what was just leased for sending is sent.
func TestDrainSendsWhatIsBeingLeased(t *testing.T) {
	wrap := func(s webtrigger.Store) webtrigger.Store { return slowLeases{s} }
	bubbleOn(t, wrap, nil, webtrigger.Options{}, func(b *bundle) {
		g := newGauge()
		b.svc.StubReceivers(func(string) error { return nil }, func(e webtrigger.Exchange) (*egress.Response, error) {
			defer g.enter(e.URL)()
			return status(204), nil
		})
		stop := b.work()
		time.Sleep(3 * time.Second) // the dispatcher waits
		b.owe(1, hook)
		synctest.Wait() // it asks for what is owed
		stop()
		require.Equal(b.t, 1, g.count(hook))
	})
}
