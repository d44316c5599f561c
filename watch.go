package webtrigger

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/stream"
)

// watchKept is how long a process watches the store after its last stream or wait
// has ended. A reader that reconnects does not cost a new watch, which is a
// connection on some stores.
const watchKept = 30 * time.Second

// watcher is a process's one loop over the store's hints. It runs while Work runs,
// while there is a stream or a request that waits, and for watchKept after these.
//
//	                    ┌─► wake: worker, dispatcher, heartbeat
//	Store.Watch ─► pass ┤
//	                    └─► notify: tails, and waits for the end of a run
type watcher struct {
	store Store
	log   *slog.Logger
	wake  func(Hint)

	mu     sync.Mutex // guards what follows
	users  int        // Work, and the hub while it has streams or waits
	kept   *time.Timer
	closed bool               // streams are closed for good
	notify func(stream.Hint)  // of the hub; nil if it has no streams and no waits
	stop   context.CancelFunc // nil if the loop does not run
	done   chan struct{}      // closed when the loop has ended
}

// join starts the loop if it does not run.
func (w *watcher) join() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.users++
	if w.kept != nil {
		w.kept.Stop()
		w.kept = nil
	}
	if w.stop == nil {
		life, stop := context.WithCancel(context.Background())
		w.stop, w.done = stop, make(chan struct{})
		go w.run(life, w.done)
	}
}

// leave undoes join when Work ends. If the loop has no other user, it ends before
// leave returns.
func (w *watcher) leave() {
	w.mu.Lock()
	w.users--
	done := w.end()
	w.mu.Unlock()
	if done != nil {
		<-done
	}
}

// close ends the loop as soon as Work does not run. It is called when streams are
// closed for good.
func (w *watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.end()
}

// end ends the loop if it has no user; mu is held. It returns the channel that is
// closed when the loop has ended, or nil if the loop continues.
func (w *watcher) end() (done <-chan struct{}) {
	if w.users > 0 || w.stop == nil {
		return nil
	}
	if w.kept != nil {
		w.kept.Stop()
		w.kept = nil
	}
	w.stop()
	w.stop = nil
	return w.done
}

// watchStreams is [stream.Source.Watch].
func (w *watcher) watchStreams(notify func(stream.Hint)) (stop func()) {
	w.join()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notify = notify
	return w.unwatchStreams
}

func (w *watcher) unwatchStreams() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notify = nil
	w.users--
	switch {
	case w.users > 0:
	case w.closed:
		w.end()
	default:
		var kept *time.Timer
		kept = time.AfterFunc(watchKept, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.kept == kept {
				w.end()
			}
		})
		w.kept = kept
	}
}

// run watches until life ends. While the store's Watch fails, everything is polled.
func (w *watcher) run(life context.Context, done chan<- struct{}) {
	defer close(done)
	for {
		err := w.store.Watch(life, w.pass)
		if life.Err() != nil {
			return
		}
		w.log.Warn("store watch failed", "error", err)
		select {
		case <-life.Done():
			return
		case <-time.After(pollInterval):
			w.wake(Hint{})
		}
	}
}

// pass passes a hint to the loops of Work and to the hub of streams.
func (w *watcher) pass(h Hint) {
	w.wake(h)
	w.mu.Lock()
	notify := w.notify
	w.mu.Unlock()
	anything := h.isZero()
	if notify != nil && (anything || len(h.Conversations)+len(h.Events) > 0) {
		notify(stream.Hint{Anything: anything, Conversations: h.Conversations, Events: streamEvents(h.Events)})
	}
}

// streamSource is the store as [stream.Source].
type streamSource struct {
	store   Store
	watcher *watcher
}

func (s streamSource) Events(ctx context.Context, query stream.Query) (stream.Page, error) {
	page, err := s.store.Events(ctx, EventQuery(query))
	return stream.Page{
		Events: streamEvents(page.Events), More: page.More, LastID: page.LastID, Ended: page.Ended, PurgedTo: page.PurgedTo,
	}, err
}

func (s streamSource) LastEventIDs(ctx context.Context, conversationIDs []int64) (map[int64]int64, error) {
	return s.store.LastEventIDs(ctx, conversationIDs)
}

func (s streamSource) RunEnded(ctx context.Context, runID int64) (bool, error) {
	run, err := s.store.RunSummary(ctx, runID)
	return run.Status.Terminal(), err
}

func (s streamSource) Watch(notify func(stream.Hint)) (stop func()) {
	return s.watcher.watchStreams(notify)
}

func streamEvents(events []Event) []stream.Event {
	if len(events) == 0 {
		return nil
	}
	converted := make([]stream.Event, len(events))
	for i := range events {
		e := &events[i]
		converted[i] = stream.Event{
			ID: e.ID, Sequence: e.Sequence, RunID: e.RunID, RunKey: e.RunKey, ConversationID: e.ConversationID,
			Type: string(e.Type), Terminal: e.Type.Terminal(), Payload: e.Payload, CreatedAt: e.CreatedAt,
		}
	}
	return converted
}
