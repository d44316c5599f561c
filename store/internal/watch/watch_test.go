package watch_test

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/internal/watch"
)

// A watcher that is slow gets events as long as they are few and small, and the
// names of their conversations after that.
func TestEventsThatWait(t *testing.T) {
	t.Parallel()
	event := func(conversationID int64, size int) webtrigger.Event {
		return webtrigger.Event{ConversationID: conversationID, Payload: bytes.Repeat([]byte("x"), size)}
	}
	const few, many, small, large = 64, 65, 1, 150 << 10
	for name, c := range map[string]struct {
		events []webtrigger.Event
		named  []int64
	}{
		"few":   {slices.Repeat([]webtrigger.Event{event(1, small)}, few), nil},
		"many":  {slices.Repeat([]webtrigger.Event{event(1, small)}, many), []int64{1}},
		"large": {[]webtrigger.Event{event(1, large), event(2, large)}, []int64{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var hub watch.Hub
				hints, resume := make(chan webtrigger.Hint, 2), make(chan struct{})
				go hub.Watch(t.Context(), func(h webtrigger.Hint) {
					hints <- h
					<-resume
				})
				synctest.Wait()
				hub.Share(webtrigger.Hint{Queued: true})
				<-hints // and now it is slow
				for _, e := range c.events {
					hub.Share(webtrigger.Hint{Events: []webtrigger.Event{e}})
				}
				close(resume)
				want := webtrigger.Hint{Conversations: c.named}
				if c.named == nil {
					want.Events = c.events
				}
				require.Equal(t, want, <-hints)
			})
		})
	}
}
