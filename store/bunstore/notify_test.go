package bunstore

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// A hint that comes alone is sent at once. Frequent hints share a notification.
func TestNotifier_sendsLessOften_underLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent []time.Time
		var conversations int
		n := &notifier{background: new(sync.WaitGroup), notify: func(h webtrigger.Hint) {
			sent = append(sent, time.Now())
			conversations += len(h.Conversations)
		}}
		hint := func(id int64) { n.send(webtrigger.Hint{Conversations: []int64{id}}) }

		for id := range int64(3) {
			start := time.Now()
			hint(id)
			n.background.Wait()
			require.Equal(t, start, sent[id])
			<-time.After(time.Second)
		}

		sent, conversations = nil, 0
		start := time.Now()
		for id := range int64(1000) { // in one second
			hint(id)
			<-time.After(time.Millisecond)
		}
		n.background.Wait()
		require.Equal(t, 1000, conversations)
		var first, rest int // notifications until notifyBusyAfter, and after it
		for _, at := range sent {
			if at.Sub(start) <= notifyBusyAfter {
				first++
			} else {
				rest++
			}
		}
		require.InDelta(t, int(notifyBusyAfter/notifyPause), first, 2)
		require.InDelta(t, int((time.Second-notifyBusyAfter)/notifyBusyPause), rest, 3)

		<-time.After(time.Second)
		start = time.Now()
		hint(1)
		n.background.Wait()
		require.Equal(t, start, sent[len(sent)-1], "after a rest, a hint is sent at once again")
	})
}
