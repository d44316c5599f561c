package memstore

import (
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// laneKey is a key of a conversation.
type laneKey struct{ assistantID, key string }

// admits reports whether a trigger may join the conversation, which is nil if the
// trigger starts it. busy is whether its run is then behind another one, and freed is
// how many bounded runs it ends.
func (c *conversation) admits(t *webtrigger.NewTrigger) (busy bool, freed int, _ error) {
	if c == nil || len(c.open) == 0 {
		return false, 0, nil
	}
	unfinished := len(c.open)
	switch t.OnBusy {
	case webtrigger.BusyReject:
		return true, 0, webtrigger.ErrConversationBusy
	case webtrigger.BusyInterrupt:
		for _, r := range c.open {
			if r.Status != webtrigger.RunRunning {
				unfinished--
				if r.bounded && r.Status == webtrigger.RunQueued {
					freed++
				}
			}
		}
	}
	if t.MaxUnfinished > 0 && unfinished >= t.MaxUnfinished {
		return true, 0, webtrigger.ErrConversationFull
	}
	return unfinished > 0, freed, nil
}

// interrupt stops all unfinished runs of a conversation. It returns those that have
// ended.
func (s *Store) interrupt(c *conversation, stop webtrigger.Stop, now time.Time) (ended []webtrigger.Run) {
	for _, r := range slices.Backward(slices.Clone(c.open)) { // so that none becomes the head in between
		if r.stop != nil {
			continue
		}
		s.stop(r, stop, now)
		if r.Status.Terminal() {
			ended = append(ended, r.summary())
		}
	}
	slices.Reverse(ended)
	return ended
}

// free makes the head of a lane claimable.
func (s *Store) free(c *conversation) {
	if len(c.open) == 0 || !c.open[0].Behind {
		return
	}
	r := c.open[0]
	s.behind.remove(r)
	r.Behind = false
	s.queue(r)
	s.waiting.add(r)
	s.hint.Queued = true
}
