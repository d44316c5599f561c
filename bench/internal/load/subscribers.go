package load

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Mark stands before the time at which an event was published, as UnixNano in 19
// digits: once in every event and nowhere else in a stream.
const Mark = '~'

// Stamp is the mark with the present time.
func Stamp() string { return string(Mark) + strconv.FormatInt(time.Now().UnixNano(), 10) }

// stampDigits is how many digits follow a mark: those of every time from 2001
// to 2262.
const stampDigits = 19

// Subscribers are open streams whose events are counted.
type Subscribers struct {
	conns  []net.Conn
	events atomic.Int64
	ended  atomic.Int64 // streams that have ended by themselves
	reads  sync.WaitGroup

	mu        sync.Mutex
	latencies []time.Duration
}

// Subscribe opens streams of a path and returns when the head of each answer has
// come. With timed it also takes the time that each event took.
func Subscribe(addr, path string, streams int, timed bool) (*Subscribers, error) {
	s := &Subscribers{}
	for range streams {
		if err := s.open(addr, path, timed); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

func (s *Subscribers) open(addr, path string, timed bool) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	s.conns = append(s.conns, conn)
	if _, err := conn.Write(Request("GET", path, "", nil)); err != nil {
		return err
	}
	in := bufio.NewReaderSize(conn, 2<<10)
	status, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if !bytes.Contains([]byte(status), []byte(" 200 ")) {
		return fmt.Errorf("load: stream %s answered %q", path, status)
	}
	if _, err := readHead(in); err != nil {
		return err
	}
	s.reads.Go(func() {
		if timed {
			s.time(in)
		} else {
			s.count(in)
		}
		s.ended.Add(1)
	})
	return nil
}

// count counts the marks.
func (s *Subscribers) count(in io.Reader) {
	buf := make([]byte, 4<<10)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		s.events.Add(int64(bytes.Count(buf[:n], []byte{Mark})))
	}
}

// time reads the stamps.
func (s *Subscribers) time(in *bufio.Reader) {
	for {
		_, err := in.ReadSlice(Mark)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return
		}
		digits, err := in.Peek(stampDigits)
		if err != nil {
			return
		}
		now := time.Now().UnixNano()
		if sent, err := strconv.ParseInt(string(digits), 10, 64); err == nil {
			s.mu.Lock()
			s.latencies = append(s.latencies, time.Duration(now-sent))
			s.mu.Unlock()
		}
		s.events.Add(1)
	}
}

// Wait returns when so many events have come in all, and how many are missing
// when none has come for patience. It looks every millisecond: a wake-up per
// event would cost the machine more.
func (s *Subscribers) Wait(events int, patience time.Duration) (missing int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	last, since := 0, time.Now()
	for {
		come := int(s.events.Load())
		if come >= events {
			return 0
		}
		if come != last {
			last, since = come, time.Now()
		} else if time.Since(since) > patience {
			return events - come
		}
		<-tick.C
	}
}

// Reset discards the events that have arrived.
func (s *Subscribers) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latencies = nil
	s.events.Store(0)
}

// Ended is how many streams have ended by themselves.
func (s *Subscribers) Ended() int { return int(s.ended.Load()) }

// Latencies returns the times from the stamp of each event to its arrival.
func (s *Subscribers) Latencies() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latencies
}

// Close ends all streams.
func (s *Subscribers) Close() {
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.reads.Wait()
}
