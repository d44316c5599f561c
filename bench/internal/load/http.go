// Package load is the client side: it keeps connections busy with requests that
// were built beforehand, or open as subscribers of streams, and takes as little
// of the machine as it can, because client, server and database share it.
package load

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Result is what a load did.
type Result struct {
	Requests  int
	Elapsed   time.Duration
	Latencies []time.Duration // one per request, in no order
}

// Rate is requests per second.
func (r *Result) Rate() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// Run sends requests to addr over clients connections, on each the next one
// when the answer to the last has come, for the given time. next gives the i-th
// request of a client as bytes, and is called by several goroutines. An answer
// with another status than want ends the load with an error.
func Run(addr string, clients int, window time.Duration, want int, next func(client, i int) []byte) (*Result, error) {
	var (
		all  sync.WaitGroup
		stop atomic.Bool
		mu   sync.Mutex
		sum  = &Result{}
		fail error
	)
	conns := make([]net.Conn, clients)
	for c := range conns {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		conns[c] = conn
	}
	began := time.Now()
	timer := time.AfterFunc(window, func() { stop.Store(true) })
	defer timer.Stop()
	for c, conn := range conns {
		all.Go(func() {
			latencies, err := client(conn, &stop, want, func(i int) []byte { return next(c, i) })
			mu.Lock()
			defer mu.Unlock()
			sum.Latencies = append(sum.Latencies, latencies...)
			if err != nil {
				fail = err
				stop.Store(true)
			}
		})
	}
	all.Wait()
	sum.Elapsed = time.Since(began)
	sum.Requests = len(sum.Latencies)
	return sum, fail
}

// client is one connection.
func client(conn net.Conn, stop *atomic.Bool, want int, next func(i int) []byte) ([]time.Duration, error) {
	latencies := make([]time.Duration, 0, 1<<14)
	in := bufio.NewReaderSize(conn, 8<<10)
	for i := 0; !stop.Load(); i++ {
		sent := time.Now()
		if _, err := conn.Write(next(i)); err != nil {
			return latencies, err
		}
		status, body, err := readResponse(in)
		if err != nil {
			return latencies, err
		}
		if status != want {
			return latencies, fmt.Errorf("load: answered %d, not %d: %.300s", status, want, body)
		}
		latencies = append(latencies, time.Since(sent))
	}
	return latencies, nil
}
