package webtrigger_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
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

// pend ends n runs with a pending callback each, without Work.
func (b *bundle) pend(n int, url string) []webtrigger.Run {
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
// pending before all others. The others get theirs immediately.
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
			b.pend(100, fmt.Sprintf(slow, host+1))
		}
		stop := b.work()
		time.Sleep(20 * time.Second) // the slow ones have taken what they get
		before := time.Now()
		var last []webtrigger.Run
		for host := range 10 {
			last = append(last, b.pend(20, fmt.Sprintf(quick, host+1))...)
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
// a host without one.
func TestAFreeSenderGoesToTheHostWithTheFewest(t *testing.T) {
	opts := webtrigger.Options{Callback: webtrigger.CallbackOptions{Workers: 5, PerHost: 4}}
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
		b.pend(50, a)
		stop := b.work()
		b.pend(3, other)
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

// While more callbacks are pending than there are senders, one lease is for several of them. One
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
		b.pend(320, url)
		stop := b.work()
		<-time.After(2 * time.Second)
		require.Equal(b.t, 320, g.count(url))
		require.Equal(b.t, 14, g.most[url], "an eighth is kept for others")
		require.Less(b.t, store.calls.Load(), int64(320/3))

		b.pend(13, url+"stuck")
		<-time.After(time.Second)
		before := g.count(url)
		b.pend(20, url)
		<-time.After(time.Second) // 16 to 31 ms each, and 10 ms for what never comes
		require.Equal(b.t, before+20, g.count(url))
		<-time.After(20 * time.Second)
		stop()
	})
}

// If a host does not respond, its retries pause, and one at a time checks whether it
// responds again. First attempts are not paused.
func TestRetry_hostWithoutResponse_pauses(t *testing.T) {
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
			b.pend(1, hook)
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

		// A resting retry is not leased: a redelivery sends it immediately.
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
		b.pend(1, hook) // its answer revives the host
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
		runs := b.pend(20, hook)
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

// If a process is lost while it has leased pending callbacks, another process sends each
// of them once.
func TestDispatcher_processLost_anotherSendsItsCallbacks(t *testing.T) {
	bubble(t, nil, webtrigger.Options{}, func(b *bundle) {
		runs := b.pend(5, hook)
		_, err := b.store.LeaseDeliveries(b.ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: 15 * time.Second, Limit: 3})
		require.NoError(b.t, err)
		got := b.answering(func(string, int) (*egress.Response, error) { return status(200), nil })
		stop := b.work()
		time.Sleep(time.Second)
		require.Len(b.t, got.times(hook), 2, "three are leased to the process that was killed")
		time.Sleep(20 * time.Second)
		stop()
		require.Len(b.t, got.times(hook), 5)
		for _, run := range runs {
			require.Equal(b.t, webtrigger.DeliveryDelivered, b.run(run.ID).Callback.State)
		}
	})
}

// answers is a receiver in a bubble: what its URLs answer, and when they were
// asked.
type answers struct {
	t  *testing.T
	at func(url string, nth int) (*egress.Response, error) // nil, nil: it does not even connect

	mu       sync.Mutex
	attempts map[string][]time.Time
	posts    map[string][]webtrigger.Exchange
}

// answering stubs the receivers of a service. answer returns the outcome of the nth
// attempt (from 0) at a URL.
func (b *bundle) answering(answer func(url string, nth int) (*egress.Response, error)) *answers {
	a := &answers{t: b.t, at: answer, attempts: make(map[string][]time.Time), posts: make(map[string][]webtrigger.Exchange)}
	b.svc.StubReceivers(a.connect, a.post)
	return a
}

func (a *answers) connect(url string) error {
	a.mu.Lock()
	nth := len(a.attempts[url])
	a.attempts[url] = append(a.attempts[url], time.Now())
	a.mu.Unlock()
	if response, err := a.at(url, nth); response == nil && err == nil {
		return unreachable(a.t)
	}
	return nil
}

func (a *answers) post(e webtrigger.Exchange) (*egress.Response, error) {
	a.mu.Lock()
	nth := len(a.attempts[e.URL]) - 1
	a.posts[e.URL] = append(a.posts[e.URL], e)
	a.mu.Unlock()
	return a.at(e.URL, nth)
}

func (a *answers) times(url string) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.attempts[url]
}

// gaps is the times between attempts.
func (a *answers) gaps(url string) []time.Duration {
	times := a.times(url)
	var gaps []time.Duration
	for i := 1; i < len(times); i++ {
		gaps = append(gaps, times[i].Sub(times[i-1]))
	}
	return gaps
}

// unreachable is the guard's error for a host without a connection.
func unreachable(t *testing.T) error {
	guard, err := egress.New(egress.Policy{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no connection")
	}})
	require.NoError(t, err)
	target, err := guard.ParseURL("https://203.0.114.9/")
	require.NoError(t, err)
	_, err = guard.Connect(context.Background(), target)
	require.Equal(t, string(webtrigger.FailureConnect), egress.Class(err))
	return err
}

func status(code int, header ...string) *egress.Response {
	h := make(http.Header)
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &egress.Response{Status: code, Header: h}
}

const hook = "https://203.0.114.1/"

func retrying(pauses ...time.Duration) webtrigger.Options {
	return webtrigger.Options{Callback: webtrigger.CallbackOptions{Retry: &webtrigger.RetryPolicy{Pauses: pauses}}}
}

// within holds each gap to its pause, up to a fifth more and one poll.
func within(t *testing.T, pauses, gaps []time.Duration) {
	t.Helper()
	require.Len(t, gaps, len(pauses))
	for i, pause := range pauses {
		require.GreaterOrEqual(t, gaps[i], pause, "gap %d", i)
		require.LessOrEqual(t, gaps[i], pause+pause/5+2*time.Second, "gap %d", i)
	}
}

// exhaust works until the run has no open delivery. In between Work does not run, so
// that a day costs no more than a minute.
func (b *bundle) exhaust(runID int64) {
	b.t.Helper()
	for {
		stop := b.work()
		time.Sleep(3 * time.Second)
		stop()
		all, err := b.svc.Deliveries(b.ctx, runID)
		require.NoError(b.t, err)
		last := all[len(all)-1]
		if last.State != webtrigger.DeliveryPending {
			return
		}
		time.Sleep(time.Until(last.DueAt))
	}
}

func TestRetriesFollowTheirPauses(t *testing.T) {
	pauses := []time.Duration{time.Second, 10 * time.Second, time.Minute, time.Hour}
	bubble(t, nil, retrying(pauses...), func(b *bundle) {
		got := b.answering(func(string, int) (*egress.Response, error) { return status(503), nil })
		run := b.triggerWithCallback("say x", hook)
		b.exhaust(run.ID)
		within(b.t, pauses, got.gaps(hook))

		all, err := b.svc.Deliveries(b.ctx, run.ID)
		require.NoError(b.t, err)
		require.Len(b.t, all, 5)
		for i, d := range all {
			require.Equal(b.t, i, d.Retry)
			require.Equal(b.t, webtrigger.DeliveryFailed, d.State)
			require.Equal(b.t, 503, d.HTTPStatus)
			require.Equal(b.t, webtrigger.FailureStatus, d.FailureClass)
			require.Equal(b.t, "203.0.114.1:443", d.Host)
			require.False(b.t, d.AttemptedAt.Before(d.DueAt))
			require.Equal(b.t, got.posts[hook][0].Body, got.posts[hook][i].Body, "the same bytes")
		}
		require.Equal(b.t, all[4].ID, b.run(run.ID).Callback.DeliveryID)
	})
}

func TestDefaultPausesLastADay(t *testing.T) {
	bubble(t, nil, retrying(), func(b *bundle) {
		got := b.answering(func(string, int) (*egress.Response, error) { return status(500), nil })
		b.exhaust(b.triggerWithCallback("say x", hook).ID)
		times := got.times(hook)
		require.Len(b.t, times, 11)
		require.Greater(b.t, times[10].Sub(times[0]), 23*time.Hour)
	})
}

func TestRetryPolicyIsChecked(t *testing.T) {
	t.Parallel()
	for _, bad := range [][]time.Duration{{}, {0}, {-time.Second}, {time.Second, 999 * time.Millisecond}, {7*24*time.Hour + 1}, make([]time.Duration, 51)} {
		_, err := webtrigger.New(setup(t, nil, nil).store, webtrigger.RunnerFunc(obey),
			&webtrigger.Options{Callback: webtrigger.CallbackOptions{Retry: &webtrigger.RetryPolicy{Pauses: bad}}})
		require.ErrorContains(t, err, "of Pauses must be")
	}
}

// Which answers are tried again, and that without a policy none is.
func TestWhatIsRetried(t *testing.T) {
	t.Parallel()
	again := func(code int) bool { return code == 408 || code == 425 || code == 429 || code >= 500 }
	for _, policy := range []bool{true, false} {
		t.Run(fmt.Sprintf("policy %v", policy), func(t *testing.T) {
			opts := retrying(time.Minute)
			if !policy {
				opts.Callback.Retry = nil
			}
			bubble(t, nil, opts, func(b *bundle) {
				// The host's name is the answer; each has a host of its own.
				got := b.answering(func(url string, _ int) (*egress.Response, error) {
					switch url {
					case "https://203.0.114.1:2001/":
						return nil, nil
					case "https://203.0.114.1:2002/":
						return nil, unreachable(b.t)
					case "https://203.0.114.1:2003/":
						return nil, &egress.Blocked{Rule: "special", Detail: "no"}
					}
					code, err := strconv.Atoi(strings.Trim(url[len("https://203.0.114.1:1"):], "/"))
					return status(code), err
				})
				stop := b.work()
				want := make(map[string]bool)
				for _, code := range []int{101, 200, 201, 202, 204, 206, 226, 299, 300, 301, 302, 303, 304, 305, 307, 308, 400, 401, 402, 403,
					405, 406, 407, 408, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451,
					499, 500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 599, 600, 999} {
					want[fmt.Sprintf("https://203.0.114.1:1%03d/", code)] = again(code)
				}
				delete(want, "https://203.0.114.1:1433/") // a data store's port
				want["https://203.0.114.1:2001/"] = true
				want["https://203.0.114.1:2002/"] = true
				want["https://203.0.114.1:2003/"] = false
				for url := range want {
					b.triggerWithCallback("say x", url)
				}
				time.Sleep(5 * time.Minute)
				stop()
				for url, retried := range want {
					n := 1
					if retried && policy {
						n = 2
					}
					require.Len(b.t, got.times(url), n, url)
				}
			})
		})
	}
}

// A workflow may begin to wait for its callback only after the first attempt.
func TestRetry_earlyNotFound_isRetried(t *testing.T) {
	t.Parallel()
	for _, code := range []int{404, 409} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			bubble(t, nil, retrying(time.Hour), func(b *bundle) {
				const soon, never = hook + "soon", hook + "never"
				got := b.answering(func(url string, nth int) (*egress.Response, error) {
					if url == soon && nth == 3 {
						return status(200), nil
					}
					return status(code), nil
				})
				stop := b.work()
				run := b.triggerWithCallback("say x", soon)
				lost := b.triggerWithCallback("say x", never)
				time.Sleep(5 * time.Minute)
				within(b.t, []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second}, got.gaps(soon))
				require.Equal(b.t, webtrigger.DeliveryDelivered, b.run(run.ID).Callback.State)

				times := got.times(never)
				require.GreaterOrEqual(b.t, len(times), 5)
				require.LessOrEqual(b.t, times[len(times)-1].Sub(times[0]), 2*time.Minute+2*time.Second)
				require.Greater(b.t, times[len(times)-1].Sub(times[0]), time.Minute)
				require.Equal(b.t, code, b.run(lost.ID).Callback.HTTPStatus)

				// Late, it is final.
				_, err := b.svc.Redeliver(b.ctx, b.run(lost.ID).Callback.DeliveryID)
				require.NoError(b.t, err)
				time.Sleep(5 * time.Minute)
				stop()
				require.Len(b.t, got.times(never), len(times)+1)
			})
		})
	}
}

func TestRetry_status410_stopsRetries(t *testing.T) {
	bubble(t, nil, retrying(time.Second, time.Second, time.Second), func(b *bundle) {
		got := b.answering(func(_ string, nth int) (*egress.Response, error) {
			return status([]int{500, 410, 200}[nth]), nil
		})
		stop := b.work()
		run := b.triggerWithCallback("say x", hook)
		time.Sleep(time.Hour)
		stop()
		require.Len(b.t, got.times(hook), 2)
		require.Equal(b.t, 410, b.run(run.ID).Callback.HTTPStatus)
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	bubble(t, nil, retrying(10*time.Second, 10*time.Second, 10*time.Second, 10*time.Second, 10*time.Second), func(b *bundle) {
		got := b.answering(func(_ string, nth int) (*egress.Response, error) {
			switch nth {
			case 0:
				return status(429, "Retry-After", "90"), nil
			case 1:
				return status(503, "Retry-After", "3"), nil // sooner than the pause
			case 2: // a clock that is a day wrong
				date := time.Now().Add(-24 * time.Hour).UTC()
				return status(503, "Retry-After", date.Add(5*time.Minute).Format(http.TimeFormat), "Date", date.Format(http.TimeFormat)), nil
			case 3:
				return status(500, "Retry-After", "99999999999999999999"), nil
			case 4:
				return status(408, "Retry-After", "soon"), nil
			}
			return status(204), nil
		})
		run := b.triggerWithCallback("say x", hook)
		b.exhaust(run.ID)
		within(b.t, []time.Duration{90 * time.Second, 10 * time.Second, 5 * time.Minute, 24 * time.Hour, 10 * time.Second}, got.gaps(hook))
		require.Equal(b.t, webtrigger.DeliveryDelivered, b.run(run.ID).Callback.State)
	})
}

// A redelivery does not wait for the pause of the retry that it replaces.
func TestRedeliveryTakesTheWaitingRetry(t *testing.T) {
	bubble(t, nil, retrying(time.Hour, time.Hour), func(b *bundle) {
		got := b.answering(func(_ string, nth int) (*egress.Response, error) { return status([]int{500, 500, 200}[nth]), nil })
		stop := b.work()
		run := b.triggerWithCallback("say x", hook)
		time.Sleep(time.Minute)
		d, err := b.svc.Redeliver(b.ctx, b.run(run.ID).Callback.DeliveryID)
		require.NoError(b.t, err)
		stop()
		b.exhaust(run.ID)
		all, err := b.svc.Deliveries(b.ctx, run.ID)
		require.NoError(b.t, err)
		require.Len(b.t, all, 3)
		require.Equal(b.t, d.ID, all[1].ID)
		require.Equal(b.t, []int{0, 0, 1}, []int{all[0].Retry, all[1].Retry, all[2].Retry})
		within(b.t, []time.Duration{58 * time.Second, time.Hour}, got.gaps(hook))
	})
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 4, 15, 10, 1, 23, 0, time.UTC)
	for _, seed := range [][2]string{
		{"120", ""}, {"0", ""}, {"-1", ""}, {"1e3", ""}, {"99999999999999999999999", ""}, {"", ""}, {" 5", ""},
		{"Wed, 15 Apr 2026 10:02:23 GMT", ""}, {"Wed, 15 Apr 2026 10:02:23 GMT", "Wed, 15 Apr 2026 10:02:00 GMT"},
		{"Wednesday, 15-Apr-26 10:02:23 GMT", "x"}, {"Wed Apr 15 10:02:23 2026", ""}, {"Fri, 31 Dec 9999 23:59:59 GMT", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		got := webtrigger.RetryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, now)
		require.GreaterOrEqual(t, got, time.Duration(0))
		require.LessOrEqual(t, got, 24*time.Hour)
		if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 && !strings.HasPrefix(value, "+") && !strings.HasPrefix(value, "-") {
			require.Equal(t, min(time.Duration(min(seconds, 86400))*time.Second, 24*time.Hour), got)
		} else if _, err := http.ParseTime(value); err != nil && strings.Trim(value, "0123456789") != "" {
			require.Zero(t, got)
		}
	})
}

// receivers counts the callbacks in progress by assistant. Hosts whose address begins
// with 203.0.114. do not answer for 10 s.
type receivers struct {
	mu        sync.Mutex
	now, most map[string]int
	sent      map[string]time.Time
}

func (b *bundle) fairReceivers() *receivers {
	r := &receivers{now: make(map[string]int), most: make(map[string]int), sent: make(map[string]time.Time)}
	b.svc.StubReceivers(func(url string) error {
		var assistant string
		var host int
		_, err := fmt.Sscanf(url, "https://203.0.114.%d/%s", &host, &assistant)
		if err != nil {
			return nil
		}
		r.count(assistant, 1)
		time.Sleep(10 * time.Second)
		r.count(assistant, -1)
		return unreachable(b.t)
	}, func(e webtrigger.Exchange) (*egress.Response, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sent[e.URL] = time.Now()
		return status(204), nil
	})
	return r
}

func (r *receivers) count(assistant string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now[assistant] += n
	r.most[assistant] = max(r.most[assistant], r.now[assistant])
}

func (r *receivers) inProgress() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.now)
}

func (r *receivers) highest() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.most)
}

func (r *receivers) sentAt(url string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[url]
}

// pendBy ends a run of an assistant with a callback to each of n hosts that are dead.
func (b *bundle) pendBy(assistant string, n int) {
	b.t.Helper()
	for i := range n {
		b.pendTo(assistant, fmt.Sprintf("https://203.0.114.%d/%s", i%256, assistant))
	}
}

func (b *bundle) pendTo(assistant, url string) {
	b.t.Helper()
	run, err := b.svc.Trigger(b.ctx, assistant, webtrigger.TriggerRequest{Message: "say x", CallbackURL: url})
	require.NoError(b.t, err)
	_, err = b.svc.CancelRun(b.ctx, run.ID, "")
	require.NoError(b.t, err)
}

// open enables the channels of assistants.
func (b *bundle) open(assistants ...string) {
	b.t.Helper()
	for _, id := range assistants {
		b.setChannel(webtrigger.Channel{AssistantID: id, Enabled: true, AllowCallbackURLs: true})
	}
}

func TestDispatcher_manyDeadHostsOfOneAssistant_anotherIsSentAtOnce(t *testing.T) {
	bubble(t, nil, webtrigger.Options{}, func(b *bundle) {
		const url = "https://203.0.115.1/"
		b.open("dead", "other")
		r := b.fairReceivers()
		b.pendBy("dead", 256)
		stop := b.work()
		time.Sleep(5 * time.Second)
		require.Equal(b.t, 28, r.inProgress()["dead"], "an eighth of the senders is kept")
		began := time.Now()
		b.pendTo("other", url)
		time.Sleep(time.Second)
		require.Less(b.t, r.sentAt(url).Sub(began), 50*time.Millisecond)
		time.Sleep(2 * time.Minute)
		stop()
	})
}

func TestDispatcher_severalAssistantsWait_eachHasAQuarter(t *testing.T) {
	bubble(t, nil, webtrigger.Options{}, func(b *bundle) {
		b.open("one", "two")
		r := b.fairReceivers()
		b.pendBy("one", 64)
		b.pendBy("two", 64)
		stop := b.work()
		time.Sleep(45 * time.Second)
		require.Equal(b.t, map[string]int{"one": 8, "two": 8}, r.highest())
		time.Sleep(2 * time.Minute)
		stop()
	})
}

// Dead hosts of many assistants have all senders but the reserve. Of these, each
// assistant gets one.
func TestDispatcher_deadHostsOfManyAssistants_newOneIsSentAtOnce(t *testing.T) {
	bubble(t, nil, webtrigger.Options{}, func(b *bundle) {
		const url = "https://203.0.115.1/"
		r := b.fairReceivers()
		stop := b.work()
		for i := range 4 {
			assistant := fmt.Sprint("dead", i)
			b.open(assistant)
			b.pendBy(assistant, 100)
			synctest.Wait()
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(b.t, map[string]int{"dead0": 28, "dead1": 1, "dead2": 1, "dead3": 1}, r.inProgress())
		b.open("other")
		began := time.Now()
		b.pendTo("other", url)
		time.Sleep(time.Second)
		require.Less(b.t, r.sentAt(url).Sub(began), 50*time.Millisecond)
		time.Sleep(11 * time.Second)
		require.Equal(b.t, map[string]int{"dead0": 7, "dead1": 7, "dead2": 7, "dead3": 7}, r.inProgress())
		time.Sleep(5 * time.Minute)
		stop()
	})
}
