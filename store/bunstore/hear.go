package bunstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// The pauses before a lost listener is started again.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// steadyAfter is how long a listener must last until its next loss is logged again.
// Behind a pooler, one may receive a notification by chance.
const steadyAfter = 5 * time.Second

// receive receives other processes' notifications until ctx ends. It starts a lost
// listener again, and then reports that anything may have changed. It logs a loss once,
// until notifications arrive again.
func (s *Store) receive(ctx context.Context, listen listenFunc) {
	pause, lost := firstPause, false
	for ctx.Err() == nil {
		e := &ear{store: s, changed: make(chan struct{}, 1)}
		began := time.Now()
		err := e.listen(ctx, listen)
		if ctx.Err() != nil {
			return
		}
		if e.hasHeard() {
			pause = firstPause
			lost = lost && time.Since(began) < steadyAfter
		}
		if !lost {
			lost = true
			s.log.WarnContext(ctx, "notification listener disconnected", "error", err, "retry_in", pause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// A listener proves that it receives by a ping to itself: when it begins, and
// whenever no notification has come for a while. A connection that broke without an error does
// not answer, and neither does a pooler that does not pass LISTEN on. A ping is repeated: LISTEN may
// reach the server after the first one.
const (
	quiet      = 10 * time.Second       // without a notification: ping
	pingAgain  = 100 * time.Millisecond // without an answer: ping again
	pingAnswer = 5 * time.Second        // without an answer since the first: lost
)

var errDeaf = errors.New("listener did not receive its own notification: connection is dead or a pooler drops LISTEN " +
	"(set Options.NoNotify, or let Options.Listen connect to the server itself); " +
	"until then processes find each other's work within 2 s, and Service.Wake wakes the workers of one process")

// ear is one attempt to listen.
type ear struct {
	store   *Store
	changed chan struct{} // holds one: look at what follows

	mu      sync.Mutex
	listens bool
	heard   bool      // an answer to a ping has come
	nonce   string    // of the ping that waits for its answer; "": none does
	last    time.Time // the last notification
}

// listen runs the listener and checks it meanwhile.
func (e *ear) listen(ctx context.Context, listen listenFunc) error {
	ctx, stop := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := e.check(ctx); err != nil {
			stop(err)
		}
	}()
	err := listen(ctx, e.store.channelName(), e.begin, e.receive)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	stop(nil)
	<-done
	return err
}

func (e *ear) hasHeard() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard
}

// begin is called when the listener has sent LISTEN.
func (e *ear) begin() {
	e.mu.Lock()
	e.listens = true
	e.mu.Unlock()
	e.wake()
}

func (e *ear) wake() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// receive is called with each payload.
func (e *ear) receive(payload string) {
	if e.store.isOwnHint(payload) {
		e.mu.Lock()
		e.last = time.Now()
		e.mu.Unlock()
		return
	}
	n, err := decodeNote(payload)
	e.mu.Lock()
	e.last = time.Now()
	first := false
	if err == nil && n.Ping != "" && n.Ping == e.nonce {
		first, e.heard, e.nonce = !e.heard, true, ""
		e.wake()
	}
	e.mu.Unlock()
	switch {
	case first:
		e.store.watchers.ShareAnything()
	case err != nil || n.Ping == "":
		e.store.received(n, err)
	}
}

// check pings until ctx ends. It returns an error if no answer comes.
func (e *ear) check(ctx context.Context) error {
	var asked time.Time // when the first ping was sent that has no answer
	for {
		e.mu.Lock()
		listens, waiting, silence := e.listens, e.nonce, time.Since(e.last)
		due := listens && (waiting != "" || !e.heard || silence >= quiet)
		if due && waiting == "" {
			asked = time.Time{}
			e.nonce = uuid.NewString()
			waiting = e.nonce
		}
		e.mu.Unlock()
		pause := quiet
		switch {
		case due && !asked.IsZero() && time.Since(asked) > pingAnswer:
			return errDeaf
		case due:
			if err := e.ping(ctx, waiting); err != nil {
				return err
			}
			if asked.IsZero() { // however long the pool was exhausted
				asked = time.Now()
			}
			pause = pingAgain
		case listens:
			pause = quiet - silence
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.changed:
		case <-time.After(pause):
		}
	}
}

func (e *ear) ping(ctx context.Context, nonce string) error {
	ctx, cancel := context.WithTimeout(ctx, e.store.timeout)
	defer cancel()
	payload, _ := json.Marshal(note{Process: e.store.process, Ping: nonce})
	err := e.store.notify(ctx, string(payload))
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "unexpected message 'A'"): // pgdriver got a notification that another client listens to
		return fmt.Errorf("%w: %w", errDeaf, err)
	}
	return fmt.Errorf("ping: %w", err)
}
