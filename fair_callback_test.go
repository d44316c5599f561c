package webtrigger_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/egress"
)

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

// oweBy ends a run of an assistant with a callback to each of n hosts that are dead.
func (b *bundle) oweBy(assistant string, n int) {
	b.t.Helper()
	for i := range n {
		b.oweTo(assistant, fmt.Sprintf("https://203.0.114.%d/%s", i%256, assistant))
	}
}

func (b *bundle) oweTo(assistant, url string) {
	b.t.Helper()
	run, err := b.svc.Trigger(b.ctx, assistant, webtrigger.TriggerRequest{Message: "say x", CallbackURL: url})
	require.NoError(b.t, err)
	_, err = b.svc.CancelRun(b.ctx, run.ID, "")
	require.NoError(b.t, err)
}

// open lets assistants have triggers.
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
		b.oweBy("dead", 256)
		stop := b.work()
		time.Sleep(5 * time.Second)
		require.Equal(b.t, 28, r.inProgress()["dead"], "an eighth of the senders is kept")
		began := time.Now()
		b.oweTo("other", url)
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
		b.oweBy("one", 64)
		b.oweBy("two", 64)
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
			b.oweBy(assistant, 100)
			synctest.Wait()
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(b.t, map[string]int{"dead0": 28, "dead1": 1, "dead2": 1, "dead3": 1}, r.inProgress())
		b.open("other")
		began := time.Now()
		b.oweTo("other", url)
		time.Sleep(time.Second)
		require.Less(b.t, r.sentAt(url).Sub(began), 50*time.Millisecond)
		time.Sleep(11 * time.Second)
		require.Equal(b.t, map[string]int{"dead0": 7, "dead1": 7, "dead2": 7, "dead3": 7}, r.inProgress())
		time.Sleep(5 * time.Minute)
		stop()
	})
}
