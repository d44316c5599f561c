package stream_test

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

	"github.com/webtrigger-go/webtrigger/internal/stream"
)

// gated is a listener of a far and slow network: its connections have small send
// buffers, and their write deadlines do not count before the gate is opened. So a
// test can look at readers who have stalled for as long as it likes.
type gated struct {
	net.Listener

	mu     sync.Mutex
	opened bool
	conns  map[*gatedConn]struct{}
}

// gatedConn is a connection behind the gate. The listener's mu guards its field.
type gatedConn struct {
	net.Conn
	gate *gated
	left time.Duration // until the deadline that does not count yet; 0: none
}

func (g *gated) Accept() (net.Conn, error) {
	c, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &gatedConn{Conn: c, gate: g}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[conn] = struct{}{}
	return conn, c.(*net.TCPConn).SetWriteBuffer(4 << 10)
}

// open has deadlines count from now on.
func (g *gated) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = true
	for c := range g.conns {
		if c.left > 0 {
			_ = c.Conn.SetWriteDeadline(time.Now().Add(c.left))
		}
	}
}

func (c *gatedConn) SetWriteDeadline(at time.Time) error {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.gate.opened {
		return c.Conn.SetWriteDeadline(at)
	}
	if c.left = 0; !at.IsZero() {
		c.left = time.Until(at)
	}
	return nil
}

func (c *gatedConn) Close() error {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	delete(c.gate.conns, c)
	return c.Conn.Close()
}

// A thousand readers who never read cost little memory, do not delay others, and are
// disconnected by the write deadline once their socket buffers are full.
func TestAThousandReadersWhoNeverRead(t *testing.T) {
	// Not parallel: it measures memory.
	const perReader, deadline = 64 << 10, time.Second
	stalled := 1000
	if testing.Short() {
		stalled = 100
	}
	source := newFake()
	hub := newHub(source, 0, deadline)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	gate := &gated{Listener: listener, conns: make(map[*gatedConn]struct{})}
	server := &http.Server{Handler: handler(hub, nil, nil)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(gate) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	addr := listener.Addr().String()
	f := newFeed(t, source, 0)
	f.appendPayload(2000, `{"text":"`+strings.Repeat("x", 1000)+`"}`) // 2 MB to replay

	without := measure(t, f, hub, addr)
	before := memoryInUse()
	conns := make([]net.Conn, stalled)
	for i := range conns {
		conns[i] = stall(t, addr, f.path(""))
	}
	require.Eventually(t, func() bool { return hub.Streaming() == stalled }, time.Minute, 10*time.Millisecond)
	beside := measure(t, f, hub, addr)
	// What a page of events takes to encode is not what a reader costs: the heap is
	// measured with all of them stalled and garbage collected.
	cost := (memoryInUse() - before) / int64(stalled)
	require.Equal(t, stalled, hub.Streaming(), "nothing but the deadline ends them")
	require.LessOrEqual(t, cost, int64(perReader+raceOverhead))

	opened := time.Now()
	gate.open()
	require.Eventually(t, func() bool { return hub.Streaming() == 0 }, 10*deadline, 5*time.Millisecond, "the deadline cuts them off")
	gone := time.Since(opened)
	for _, c := range conns {
		_ = c.Close()
	}
	with99, without99 := percentile(beside, 99), percentile(without, 99)
	t.Logf("%d stalled readers cost %d KiB each and were disconnected %v after their deadline began; events reached healthy readers beside them in %v (p50) and %v (p99), without them in %v and %v: %.1f times the p99",
		stalled, cost>>10, gone.Round(time.Millisecond), percentile(beside, 50), with99, percentile(without, 50), without99, float64(with99)/float64(without99))
	require.Less(t, with99, 10*max(without99, 20*time.Millisecond), "stalled readers must not delay others")
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

// percentile is the p-th of 100 parts.
func percentile(took []time.Duration, p int) time.Duration {
	slices.Sort(took)
	return took[len(took)*p/100]
}

// measure appends events one by one while five healthy readers follow. It returns the
// time that each event took to each reader, after all readers have disconnected.
func measure(t *testing.T, f *feed, hub *stream.Hub, addr string) (took []time.Duration) {
	t.Helper()
	others := hub.Streaming()
	const readers, events = 5, 400
	at := make([]time.Time, events)
	var mu sync.Mutex
	var all sync.WaitGroup
	got := make(chan struct{}, readers)
	for range readers {
		end := f.source.last(f.run.conversationID)
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
	require.Len(t, took, events*readers)
	require.Eventually(t, func() bool { return hub.Streaming() == others }, time.Minute, time.Millisecond)
	return took
}
