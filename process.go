package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
)

// process is this process as the store has it (see [ProcessStore]), with all claims
// that it has or may have. Every claim of the process is in one of three places, or it
// is found by a heartbeat and goes to the last one:
//
//	calls ────────► executions ────────► ended, requeued
//	  │ stale id       │ the end is not stored ▲
//	  └──► unsettled ◄─┘ ──────────────────────┘
//	           ▲
//	           └── a claim that only a heartbeat finds
type process struct {
	s    *Service
	beat chan struct{} // the heartbeat must not wait for its tick

	mu         sync.Mutex // guards the following fields
	id         string     // of the row in the store; a new UUID for each registration
	live       bool       // a heartbeat of id has succeeded
	liveSince  time.Time
	removing   bool      // the row is being removed
	contact    time.Time // when the last successful renewal was sent
	expiry     *time.Timer
	tried      chan struct{} // closed at the end of the current try to register
	failure    error         // of the last try
	executions map[Lease]*execution
	calls      map[*claimCall]struct{}
	seen       *noted // of the heartbeat in progress, or of the last one that failed
	doubts     int    // calls that failed since a heartbeat has read the claims
	unsettled  map[Lease]*unsettled
	settling   chan struct{} // holds an element for each of their writes in progress

	users     int           // Work, and calls of Execute
	beating   bool          // the heartbeat goroutine runs
	leaveFrom time.Time     // without users: when the row may be removed
	leaveBy   time.Time     // without users: when the removal is given up; zero: never
	idle      *time.Timer   // ends the rest; nil if the process has never rested
	left      chan struct{} // closed when the removal is over; nil if nothing waits for it
}

func (p *process) init(s *Service) {
	p.s = s
	p.beat = make(chan struct{}, 1)
	p.tried = make(chan struct{})
	p.executions = make(map[Lease]*execution)
	p.calls = make(map[*claimCall]struct{})
	p.unsettled = make(map[Lease]*unsettled)
	p.settling = make(chan struct{}, settlers)
}

// join keeps the process registered until leave or rest.
func (p *process) join() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users++
	p.leaveBy = time.Time{}
	p.releaseLeaver()
	if p.idle != nil {
		p.idle.Stop()
	}
	if !p.beating {
		p.beating = true
		go p.heartbeats()
	}
}

// rest undoes join when Execute returns. Without users the process stays registered
// for one more lease, so that a host that calls Execute repeatedly does not register
// each time. It needs no heartbeats then, because it has no claims.
func (p *process) rest() { p.unjoin(p.s.opts.Lease, time.Time{}) }

// leave undoes join when Work returns. Without users it removes the process from the
// store. It returns when the process is removed, or when by has passed.
func (p *process) leave(by time.Time) {
	if left := p.unjoin(0, by); left != nil {
		<-left
	}
}

// unjoin ends the use of the process. If there is no other user, it returns a channel
// that is closed when the process has left or has a user again.
func (p *process) unjoin(after time.Duration, by time.Time) (left <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users--
	if p.users > 0 {
		return nil
	}
	p.leaveFrom, p.leaveBy = time.Now().Add(after), by
	p.left = make(chan struct{})
	signal(p.beat)
	return p.left
}

// releaseLeaver ends the wait of leave; mu is held.
func (p *process) releaseLeaver() {
	if p.left != nil {
		close(p.left)
		p.left = nil
	}
}

// rests reports whether the process has no users, and no claims that heartbeats must
// find or end. The heartbeats then pause until join, or until the process leaves.
func (p *process) rests() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pause := time.Until(p.leaveFrom)
	if p.users > 0 || pause <= 0 || p.doubts > 0 || len(p.unsettled) > 0 {
		return false
	}
	p.beating = false
	p.idle = time.AfterFunc(pause, p.wake)
	return true
}

// wake continues the heartbeats of a process that rests, so that it leaves.
func (p *process) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.beating && p.users == 0 && p.id != "" {
		p.beating = true
		go p.heartbeats()
	}
}

// leaves removes the process from the store if it has no users and no unsettled claims.
// It reports whether the process has left. Then the heartbeats must end.
func (p *process) leaves() bool {
	p.mu.Lock()
	now := time.Now()
	late := !p.leaveBy.IsZero() && !now.Before(p.leaveBy)
	if p.users > 0 || now.Before(p.leaveFrom) || len(p.unsettled) > 0 && !late {
		p.mu.Unlock()
		return false
	}
	id, left := p.id, len(p.unsettled)
	p.removing = true
	p.mu.Unlock()
	var err error
	if id != "" {
		ctx, cancel := context.WithTimeout(context.Background(), p.patience())
		err = p.s.store.RemoveProcess(ctx, id)
		cancel()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removing = false
	if err == nil {
		p.id, p.live = "", false
	}
	if p.users > 0 {
		if p.live {
			p.endTry(nil)
		}
		signal(p.beat)
		return false
	}
	if err != nil && !late && (p.doubts > 0 || errors.Is(err, ErrConflict)) {
		return false // the next heartbeat finds the claims
	}
	if err != nil || left > 0 {
		p.s.log.Warn("process not removed", "process_id", id, "runs", left, "error", err, "effect", "other processes sweep its runs")
	}
	p.id, p.live, p.beating = "", false, false
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
	p.releaseLeaver()
	return true
}

// awaitRegistration returns when the process may claim. It returns the error of the
// store if the next try to register fails.
func (p *process) awaitRegistration(ctx context.Context) error {
	p.mu.Lock()
	ready, tried := p.mayClaim(), p.tried
	p.mu.Unlock()
	if ready {
		return nil
	}
	signal(p.beat)
	select {
	case <-tried:
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mayClaim() {
		return p.failure
	}
	return nil
}

// mayClaim reports whether the process has a row and keeps it; mu is held.
func (p *process) mayClaim() bool { return p.live && !p.removing }

// register returns the id of the process. It registers the process if that has not
// succeeded yet, under a new id if it has none. A repeated call with the same id is one
// registration. Without users and without a row, the id is empty.
func (p *process) register(ctx context.Context) (id string, err error) {
	p.mu.Lock()
	if p.id == "" && p.users > 0 {
		p.id = uuid.NewString()
	}
	id = p.id
	live := p.live
	p.mu.Unlock()
	if live || id == "" {
		return id, nil
	}
	if err := p.s.store.RegisterProcess(ctx, p.describe(id)); err != nil {
		p.s.log.Warn("process registration failed", "process_id", id, "error", err)
		p.mu.Lock()
		p.endTry(fmt.Errorf("register process: %w", err))
		p.mu.Unlock()
		return id, err
	}
	return id, nil
}

func (p *process) describe(id string) Process {
	return Process{ID: id, Lease: p.s.opts.Lease, MaxAttempts: p.s.opts.MaxAttempts}
}

// registered records a successful renewal that was sent at the given time. The first
// one of an id allows claims.
func (p *process) registered(id string, sent time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.id != id {
		return // expelled since
	}
	p.contact = sent
	p.watchExpiry()
	if p.live {
		return
	}
	p.live, p.liveSince = true, sent
	p.endTry(nil)
	p.s.log.Info("process registered", "process_id", id)
	p.s.worker.look()
}

// endTry reports the end of a try to register; mu is held.
func (p *process) endTry(err error) {
	p.failure = err
	close(p.tried)
	p.tried = make(chan struct{})
}

// notRenewed reports to calls that wait for the registration that it failed.
func (p *process) notRenewed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live {
		p.endTry(fmt.Errorf("register process: %w", err))
	}
}

// expel handles the answer that the store has no row of the process with this id, or
// has marked it lost: its executions lose their leases, and the next heartbeat
// registers the process under a new id. That heartbeat comes immediately, unless the
// registration was brief.
func (p *process) expel(id string) {
	p.mu.Lock()
	if p.id != id {
		p.mu.Unlock()
		return
	}
	wasLive, brief := p.live, time.Since(p.liveSince) < p.interval()
	p.id, p.live = "", false
	if !wasLive {
		p.endTry(errors.New("process registration expired"))
	}
	var lost []*execution
	for _, x := range p.executions {
		if x.processID == id && !x.ending {
			lost = append(lost, x)
		}
	}
	p.mu.Unlock()
	if wasLive {
		p.s.log.Warn("process lost", "process_id", id, "runs", len(lost), "effect", "its runs stop, and it registers again")
	}
	for _, x := range lost {
		x.lose()
	}
	if wasLive && !brief {
		signal(p.beat)
	}
}

// processID returns the id under which the process may sweep, or "".
func (p *process) processID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live {
		return ""
	}
	return p.id
}

// watchExpiry stops the Runners when the lease of the process ends without a renewal,
// if other processes may repeat their runs; mu is held.
func (p *process) watchExpiry() {
	if p.s.opts.MaxAttempts == 1 {
		return
	}
	left := time.Until(p.contact.Add(p.s.opts.Lease))
	if p.expiry == nil {
		p.expiry = time.AfterFunc(left, p.lapse)
		return
	}
	p.expiry.Reset(left)
}

// lapse stops the Runners of all executions. The process returns their runs to the
// queue as soon as the store answers, unless another process has swept them.
func (p *process) lapse() {
	p.mu.Lock()
	var running []*execution
	if time.Since(p.contact) >= p.s.opts.Lease {
		for _, x := range p.executions {
			if !x.ending {
				running = append(running, x)
			}
		}
	}
	p.mu.Unlock()
	if len(running) == 0 {
		return
	}
	p.s.log.Warn("lease expired", "runs", len(running), "effect", "their Runners stop")
	for _, x := range running {
		x.end(ErrLeaseLost)
	}
}

const (
	sweepBatch     = 100
	auditInterval  = time.Minute
	unknownTimeout = 60 * time.Second // a delivery that is claimed for longer without an outcome is unknown
)

// sweepLoop ends or requeues the runs of lost processes. Every process does so, at
// irregular times, so that they do not sweep at the same instant. After errors it waits
// longer, but no longer than a lease.
func (s *Service) sweepLoop(life context.Context) {
	interval := min(s.opts.Lease/4, 5*time.Second)
	pause := interval
	next := time.NewTimer(sweepPause(pause))
	defer next.Stop()
	audited := time.Now()
	for {
		select {
		case <-life.Done():
			return
		case <-next.C:
		}
		audit := time.Since(audited) >= auditInterval
		if audit {
			audited = time.Now()
		}
		pause = min(2*pause, 4*interval)
		if s.sweepRuns(life, audit) {
			pause = interval
		}
		s.sweepDeliveries(life)
		next.Reset(sweepPause(pause))
	}
}

// sweepPause returns a time from half of d to d.
func sweepPause(d time.Duration) time.Duration { return d - rand.N(d/2+1) }

// sweepRuns reports whether the store answered or some runs changed.
func (s *Service) sweepRuns(life context.Context, audit bool) (ok bool) {
	for {
		id := s.process.processID()
		if id == "" {
			return true
		}
		ctx, cancel := context.WithTimeout(life, statementTimeout)
		swept, err := s.store.SweepRuns(ctx, Sweep{
			ProcessID: id, MaxQueueTime: s.opts.MaxQueueTime, Limit: sweepBatch, Audit: audit,
		})
		cancel()
		if err != nil && life.Err() == nil {
			s.log.Warn("run sweep failed", "runs", len(swept), "error", err)
		}
		for _, run := range swept {
			s.log.With(run.logFields()...).Warn("run swept", "status", run.Status, "status_detail", run.StatusDetail)
			s.opts.Hooks.ended(life, run)
		}
		if err != nil || len(swept) < sweepBatch {
			return err == nil || len(swept) > 0
		}
	}
}

func (s *Service) sweepDeliveries(life context.Context) {
	ctx, cancel := context.WithTimeout(life, statementTimeout)
	defer cancel()
	swept, err := s.store.SweepDeliveries(ctx, unknownTimeout, sweepBatch)
	if err != nil && life.Err() == nil {
		s.log.Warn("delivery sweep failed", "error", err)
	}
	for _, d := range swept {
		s.log.Warn("callback outcome unknown", "delivery_id", d.ID, "run_id", d.RunID, "run_key", d.RunKey)
	}
}
