//go:build unix

package chaostest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load is ten assistants whose callers trigger all the time.
type load struct {
	rig        *rig
	assistants []*caller
	turn       atomic.Int64 // of the replicas

	mu       sync.Mutex
	sent     []*sent
	arrivals map[string]time.Time // run key → callback
	last     int64                // the highest run id
	wrong    []string             // answers that no caller should get
	gaveUp   int
	retries  int

	ending chan struct{}
	under  sync.WaitGroup
}

// caller triggers one assistant.
type caller struct {
	id, key string
	n       atomic.Int64
	busy    chan struct{}                 // an element for each trigger under way
	url     atomic.Pointer[func() string] // for callbacks; nil: the good receiver
}

// sent is one trigger.
type sent struct {
	name      string
	assistant string
	began     time.Time
	acked     time.Time // zero: it was not
	by        string    // the replica that acknowledged it; "": the front
	runKey    string
}

// The assistants that a fault of their own concerns. No fault concerns the others alone.
const (
	openAssistant   = 6
	lockedAssistant = 7
	slowAssistant   = 8
	silentAssistant = 9
)

func newLoad(r *rig) *load {
	l := &load{rig: r, arrivals: make(map[string]time.Time), ending: make(chan struct{})}
	for i := range 10 {
		l.assistants = append(l.assistants, &caller{id: fmt.Sprint(i + 1), key: strings.Repeat(fmt.Sprintf("%02x", 0xa0+i), 32), busy: make(chan struct{}, 8)})
	}
	return l
}

// begin has each caller send a trigger at each interval, whatever became of the last
// ones, unless very many are under way.
func (l *load) begin(every time.Duration) {
	for i, a := range l.assistants {
		l.under.Go(func() {
			select {
			case <-time.After(every * time.Duration(i) / time.Duration(len(l.assistants))): // not all at once
			case <-l.ending:
				return
			}
			tick := time.NewTicker(every)
			defer tick.Stop()
			for n := 0; ; n++ {
				job := short
				if n%8 == 7 {
					job.takes = 900 * time.Millisecond
				}
				select {
				case a.busy <- struct{}{}:
					l.under.Go(func() {
						l.send(a, job, l.next)
						<-a.busy
					})
				default:
				}
				select {
				case <-tick.C:
				case <-l.ending:
					return
				}
			}
		})
	}
}

// end returns when no trigger is under way any more.
func (l *load) end() {
	close(l.ending)
	l.under.Wait()
}

// next is a server, in turns: a replica, or the front, whose runs wait in the queue until
// a replica claims them.
func (l *load) next() *replica {
	i := l.turn.Add(1) % 4
	if i == 3 {
		return l.rig.front
	}
	return l.rig.replicas[i]
}

// work is what the Runner of a run does.
type work struct {
	takes time.Duration
	quiet bool // it stores one event, else one at least every 200 ms
}

var short = work{takes: 30 * time.Millisecond}

// message is the message of a trigger: its name, and the work.
func (w work) message(name string) string {
	if w.quiet {
		return fmt.Sprintf("%s %v quiet", name, w.takes)
	}
	return fmt.Sprintf("%s %v", name, w.takes)
}

// giveUp is how long a caller tries.
const giveUp = 60 * time.Second

// name is a new name of a trigger, which is its idempotency key.
func (a *caller) name() string { return fmt.Sprintf("%s.%d", a.id, a.n.Add(1)) }

func (l *load) send(a *caller, job work, at func() *replica) *sent {
	return l.sendAs(a, a.name(), job, at)
}

func (l *load) sendAs(a *caller, name string, job work, at func() *replica) *sent {
	url := a.url.Load()
	if url == nil {
		good := func() string { return l.rig.receivers.good.URL + "/" }
		url = &good
	}
	return l.sendTo(a, name, job, *url, at)
}

// sendTo triggers until a replica returns 202, with one idempotency key. It returns nil if
// the caller gives up.
func (l *load) sendTo(a *caller, name string, job work, url func() string, at func() *replica) *sent {
	s := &sent{name: name, assistant: a.id, began: time.Now()}
	l.mu.Lock()
	l.sent = append(l.sent, s)
	l.mu.Unlock()
	body := fmt.Sprintf(`{"message": %q, "callback_url": %q}`, job.message(s.name), url())
	for {
		x := at()
		if e, ok := l.post(x, a, s.name, body); ok {
			e.Kind, e.Trigger = acknowledged, s.name
			if err := l.rig.ledger.add(e); err != nil {
				l.report("ledger: " + err.Error())
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			s.acked, s.by, s.runKey = time.Now(), x.spec.Name, e.RunKey
			l.last = max(l.last, e.RunID)
			return s
		}
		l.mu.Lock()
		l.retries++
		l.mu.Unlock()
		if time.Since(s.began) > giveUp {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.gaveUp++
			return nil
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// post sends a request. Without a 202, the caller may repeat it.
func (l *load) post(x *replica, a *caller, idempotencyKey, body string) (entry, bool) {
	_, base := x.current()
	req, err := http.NewRequest(http.MethodPost, base+"/api/v1/assistants/"+a.id+"/web-trigger", strings.NewReader(body))
	if err != nil {
		return entry{}, false
	}
	req.Header = http.Header{"Authorization": {"Bearer " + a.key}, "Content-Type": {"application/json"}, "Idempotency-Key": {idempotencyKey}}
	resp, err := l.rig.client.Do(req)
	if err != nil {
		return entry{}, false
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return entry{}, false
	}
	var e entry
	switch resp.StatusCode {
	case http.StatusAccepted:
		if err := json.Unmarshal(raw, &e); err != nil {
			l.report(fmt.Sprintf("%v in %s", err, raw))
		}
		return e, true
	case http.StatusServiceUnavailable:
	default:
		l.report(fmt.Sprintf("%d %s", resp.StatusCode, raw))
	}
	return entry{}, false
}

func (l *load) report(wrong string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, wrong)
}

func (l *load) arrived(runKey string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, again := l.arrivals[runKey]; !again {
		l.arrivals[runKey] = time.Now()
	}
}

func (l *load) lastRun() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// total is the time from the request to the callback.
func (l *load) total(s *sent) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.arrivals[s.runKey]
	return at.Sub(s.began), ok
}

// accepted is the time from the first request to the 202.
func (l *load) accepted(s *sent) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.acked.Sub(s.began).Round(time.Millisecond)
}

// since are the triggers that were sent from the nth on.
func (l *load) since(n int) []*sent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sent[n:])
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sent)
}

// ack returns the run of a trigger and when it was acknowledged.
func (l *load) ack(s *sent) (runKey string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.runKey, s.acked
}
