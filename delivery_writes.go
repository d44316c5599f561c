package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// claimPatience is how long one call of ClaimDelivery may take. A repeated call may
// get the answer that the first one did not.
const claimPatience = 2 * time.Second

// errClaimUnknown reports that the claim of a delivery may have been stored, so the
// delivery must be returned.
var errClaimUnknown = errors.New("outcome of the claim is unknown")

// claimDelivery claims a delivery for its POST. While ctx lasts, it repeats a call whose
// outcome is not known. The caller may send only if it returns nil. ErrLeaseLost means
// that nothing is claimed, unless the error also wraps errClaimUnknown.
func (s *Service) claimDelivery(ctx context.Context, lease DeliveryLease) error {
	unknown := false
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		call, cancel := context.WithTimeout(ctx, claimPatience)
		err := s.store.ClaimDelivery(call, lease)
		cancel()
		over := ctx.Err()
		switch {
		case err == nil && over == nil:
			return nil
		case errors.Is(err, ErrLeaseLost) && !unknown:
			return err
		case errors.Is(err, ErrLeaseLost), over != nil:
			return fmt.Errorf("%w: %w", errClaimUnknown, errors.Join(err, over))
		}
		unknown = true
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// deliveryWrite is a write about a delivery that is repeated until its outcome is known.
type deliveryWrite struct {
	write   func(context.Context) error
	done    func()      // called when it is stored by a call that has returned nil
	failed  func(error) // called when it is not stored
	unknown bool        // an earlier call may have stored it
	errors  int         // that are not the store's unavailability
}

// try makes one call. It reports whether the outcome is known or the write is given up.
func (w *deliveryWrite) try(ctx context.Context, patience time.Duration) (over bool, err error) {
	const tries = 10
	call, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = w.write(call)
	switch {
	case err == nil:
		w.done()
		return true, nil
	case errors.Is(err, ErrLeaseLost), errors.Is(err, ErrConflict):
		if !w.unknown {
			w.failed(err)
		}
		return true, err
	case !storeAway(err):
		w.errors++
	}
	w.unknown = true
	if w.errors == tries {
		w.failed(err)
		return true, err
	}
	return false, err
}

// deliveryWrites makes the writes about deliveries. A write that does not succeed soon
// must not occupy a sender: it goes to a list that one goroutine repeats. The zero value
// is ready for use.
type deliveryWrites struct {
	mu      sync.Mutex // guards the following fields
	list    []*deliveryWrite
	running chan struct{} // closed when the goroutine has ended; nil: none
	closed  context.CancelFunc
}

// write makes a write. It returns soon, and the write may not be stored then.
func (d *deliveryWrites) write(w *deliveryWrite) {
	pause := 50 * time.Millisecond
	for range 3 {
		over, err := w.try(context.Background(), statementTimeout)
		if over {
			return
		}
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		time.Sleep(pause)
		pause *= 2
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, w)
	if d.running == nil {
		d.running = make(chan struct{})
		var life context.Context
		life, d.closed = context.WithCancel(context.Background())
		go d.repeat(life, d.running)
	}
}

// repeat makes the writes of the list until it is empty or life ends.
func (d *deliveryWrites) repeat(life context.Context, ended chan<- struct{}) {
	defer close(ended)
	for {
		d.mu.Lock()
		list := slices.Clone(d.list)
		if len(list) == 0 || life.Err() != nil {
			d.list, d.running = nil, nil
			d.closed()
			d.mu.Unlock()
			for _, w := range list {
				w.failed(errPostponed)
			}
			return
		}
		d.mu.Unlock()
		over := make(map[*deliveryWrite]bool)
		for _, w := range list {
			if life.Err() == nil {
				over[w], _ = w.try(life, claimPatience)
			}
		}
		d.mu.Lock()
		d.list = slices.DeleteFunc(d.list, func(w *deliveryWrite) bool { return over[w] })
		left := len(d.list)
		d.mu.Unlock()
		if left > 0 {
			select {
			case <-life.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

// finish waits until the list is empty, or until ctx ends and the rest is given up. It
// reports whether there was anything to wait for.
func (d *deliveryWrites) finish(ctx context.Context) bool {
	d.mu.Lock()
	running, stop := d.running, d.closed
	d.mu.Unlock()
	if running == nil {
		return false
	}
	select {
	case <-running:
	case <-ctx.Done():
		stop()
		<-running
	}
	return true
}

// returnDelivery puts a delivery that was not sent back to pending.
func (d *dispatcher) returnDelivery(log *slog.Logger, lease DeliveryLease) {
	d.writes.write(&deliveryWrite{
		write: func(ctx context.Context) error { return d.s.store.ReturnDelivery(ctx, lease) },
		done: func() {
			log.Info("callback returned", "effect", "it is sent under another lease")
			signal(d.s.pending)
		},
		failed: func(err error) { log.Error("callback return failed", "error", err) },
	})
}

// record stores the outcome of a delivery. A delivery without a recorded outcome is
// marked unknown one minute after its claim. A later record replaces that.
func (d *dispatcher) record(log *slog.Logger, lease DeliveryLease, o DeliveryOutcome) {
	log = log.With("state", o.State, "http_status", o.HTTPStatus, "latency", o.Latency)
	if o.State == DeliveryDelivered {
		log.Info("callback delivered")
	} else {
		log.Warn("callback not delivered", "error_class", o.FailureClass, "reason", o.Error, "retry_in", o.RetryIn)
	}
	d.writes.write(&deliveryWrite{
		write:  func(ctx context.Context) error { return d.s.store.FinishDelivery(ctx, lease, o) },
		done:   func() {},
		failed: func(err error) { log.Error("callback outcome not recorded", "error", err) },
	})
}
