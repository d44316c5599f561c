package webtrigger_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// narrow is a listener whose connections have small send buffers, as those of a
// far and slow network have.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

// A thousand readers who never read cost little memory, hold up nobody, and are
// gone by the write deadline once their socket buffers are full.
func TestAThousandReadersWhoNeverRead(t *testing.T) {
	// Not parallel: it measures memory.
	const healthy, perReader = 5, 64 << 10
	stalled := 1000
	if testing.Short() {
		stalled = 100
	}
	store := memstore.New(nil)
	svc, err := webtrigger.New(store, nil, &webtrigger.Options{Workers: -1, Streams: webtrigger.StreamOptions{WriteTimeout: 10 * time.Second}})
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: svc.EventsHandler(everyone)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(narrow{listener}) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	f := newFeed(t, store, 0)
	f.appendPayload(2000, `{"text":"`+strings.Repeat("x", 1000)+`"}`) // 2 MB to replay

	// What a page of events takes to encode is not what a reader costs: the heap is
	// measured with all of them stalled and garbage collected.
	without := measure(t, f, listener.Addr().String(), healthy)
	before := memoryInUse()
	conns := make([]net.Conn, stalled)
	for i := range conns {
		conns[i] = stall(t, listener.Addr().String(), f.path(""))
	}
	most := 0
	require.Eventually(t, func() bool { // all of them, or on a very slow machine until the first is cut off
		now := svc.Streaming()
		begun := now == stalled || now < most
		most = now
		return begun
	}, time.Minute, 10*time.Millisecond)
	with := measure(t, f, listener.Addr().String(), healthy)
	held := svc.Streaming()
	cost := (memoryInUse() - before) / int64(max(held, 1))
	t.Logf("%d stalled readers cost %d KiB each; events reached %d healthy readers in %v (p50) and %v (p99), without the others in %v and %v",
		held, cost>>10, healthy, with[0], with[1], without[0], without[1])
	if held >= stalled { // a very slow machine has cut the first off by now
		require.LessOrEqual(t, cost, int64(perReader+raceOverhead))
	}
	require.Less(t, with[1], 2*time.Second, "nobody waits for those who do not read")
	require.Eventually(t, func() bool { return svc.Streaming() == 0 }, 100*time.Second, 20*time.Millisecond, "the deadline cuts them off")
	for _, c := range conns {
		_ = c.Close()
	}
}

func memoryInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// stall requests a stream and reads nothing of it.
func stall(t *testing.T, addr, path string) net.Conn {
	t.Helper()
	dialer := net.Dialer{}
	c, err := dialer.DialContext(context.Background(), "tcp", addr)
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).SetReadBuffer(4<<10))
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: app.example.com\r\n\r\n", path)
	require.NoError(t, err)
	return c
}

// measure appends events while healthy readers follow, and returns the median
// and the 99th percentile of how long each took to reach each.
func measure(t *testing.T, f *feed, addr string, readers int) [2]time.Duration {
	t.Helper()
	const events = 100
	at := make([]time.Time, events)
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	got := make(chan struct{}, readers)
	for range readers {
		end, err := lastID(f)
		require.NoError(t, err)
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: app.example.com\r\n\r\n", f.path(fmt.Sprintf("?after_event_id=%d", end)))
		require.NoError(t, err)
		lines := bufio.NewScanner(c)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "retry: ") {
		}
		all.Go(func() {
			defer c.Close()
			for n := 0; n < events && lines.Scan(); {
				if strings.HasPrefix(lines.Text(), "data: ") {
					mu.Lock()
					took = append(took, time.Since(at[n]))
					mu.Unlock()
					n++
					got <- struct{}{}
				}
			}
		})
	}
	for n := range at {
		at[n] = time.Now()
		f.append(1)
		for range readers {
			<-got
		}
	}
	all.Wait()
	slices.Sort(took)
	require.Len(t, took, events*readers)
	return [2]time.Duration{took[len(took)/2], took[len(took)*99/100]}
}

// lastID is the id of the feed's last event.
func lastID(f *feed) (int64, error) {
	last, err := f.store.LastEventIDs(context.Background(), []int64{f.run.ConversationID})
	return last[f.run.ConversationID], err
}
