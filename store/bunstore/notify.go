package bunstore

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/internal/watch"
)

// notifier sends one notification at a time, outside of the transactions that
// it announces: Postgres takes a lock for the whole server when one that notifies
// commits. What happens while one is sent goes into the next, and where much
// happens there is a pause between them.
type notifier struct {
	store *Store

	mu      sync.Mutex
	hint    webtrigger.Hint
	sending bool
	next    time.Time // not before
}

// The pause after a notification grows with the number of conversations in it. Many change at a
// time in a process that is busy, and their readers in other processes do not notice a
// few milliseconds. After a longer pause, a notification is sent at once.
const (
	notifyPause       = 2 * time.Millisecond
	pauseConversation = notifyPause / 8 // for each
	longNotifyPause   = 10 * time.Millisecond
)

func pauseAfterNote(h webtrigger.Hint) time.Duration {
	return min(notifyPause+time.Duration(len(h.Conversations))*pauseConversation, longNotifyPause)
}

// note is the payload of a notification. Ping is empty in the notification of a hint.
type note struct {
	Process       string  `json:"p,omitempty"` // "": a host's transaction
	Ping          string  `json:"ping,omitempty"`
	Anything      bool    `json:"any,omitempty"`
	Queued        bool    `json:"q,omitempty"`
	Pending       bool    `json:"o,omitempty"`
	Conversations []int64 `json:"c,omitempty"`
	Stopped       []int64 `json:"s,omitempty"`
}

func (n note) hint() webtrigger.Hint {
	return webtrigger.Hint{Queued: n.Queued, Pending: n.Pending, Conversations: n.Conversations, Stopped: n.Stopped}
}

func decodeNote(payload string) (n note, err error) {
	return n, json.Unmarshal([]byte(payload), &n)
}

// isOwnHint reports whether a payload is a hint of this process, which has it already. It
// saves decoding most payloads that a busy process receives.
func (s *Store) isOwnHint(payload string) bool {
	rest, own := strings.CutPrefix(payload, `{"p":"`+s.process+`",`)
	return own && !strings.HasPrefix(rest, `"ping":`)
}

// maxPayload is what Postgres takes: less than 8000 bytes (NOTIFY).
const maxPayload = 7999

// encodeNote returns the payload of a hint. If it has too many ids, the payload has the
// mark for "anything may have changed" instead.
func encodeNote(process string, h webtrigger.Hint) string {
	slices.Sort(h.Conversations)
	n := note{Process: process, Queued: h.Queued, Pending: h.Pending, Conversations: slices.Compact(h.Conversations), Stopped: h.Stopped}
	payload, _ := json.Marshal(n) // numbers and texts: cannot fail
	if len(payload) > maxPayload {
		payload, _ = json.Marshal(note{Process: process, Anything: true, Queued: true, Pending: true})
	}
	return string(payload)
}

// send sees to it that the hint is sent.
func (n *notifier) send(h webtrigger.Hint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	watch.Merge(&n.hint, h)
	if !n.sending {
		n.sending = true
		n.store.background.Go(n.work)
	}
}

// work sends until nothing is left. A notification that fails is not sent again:
// the others' polls are the net.
func (n *notifier) work() {
	for {
		time.Sleep(time.Until(n.next))
		n.mu.Lock()
		h := n.hint
		n.hint = webtrigger.Hint{}
		if watch.IsZero(h) {
			n.sending = false
			n.mu.Unlock()
			return
		}
		n.next = time.Now().Add(pauseAfterNote(h))
		n.mu.Unlock()
		s := n.store
		ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
		err := s.notify(ctx, encodeNote(s.process, h))
		cancel()
		if err != nil {
			s.log.Warn("notification not sent", "error", err)
		}
	}
}

// notify sends a notification on its own.
func (s *Store) notify(ctx context.Context, payload string) error {
	return s.notifyOn(ctx, s.pool(), payload)
}

// notifyWithin sends what a host's transaction did with its commit: the one
// place where a notification is part of a transaction.
func (s *Store) notifyWithin(ctx context.Context, t *tx) error {
	if watch.IsZero(t.hint) {
		return nil
	}
	return s.notifyOn(ctx, t.session, encodeNote("", t.hint))
}

func (s *Store) notifyOn(ctx context.Context, on session, payload string) error {
	_, err := on.exec(ctx, `SELECT pg_notify($1, $2)`, s.channelName(), payload)
	return err
}
