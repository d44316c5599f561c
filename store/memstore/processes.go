package memstore

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// process is a registered process with its claims. Its times count from the same
// instant as Store.elapsed.
type process struct {
	webtrigger.Process
	expires      time.Duration
	contactSince time.Duration
	lostAt       time.Duration // 0 if it is not lost
	claims       map[int64]*run
}

// silent reports whether the last renewal is more than two thirds of a lease old.
func (p *process) silent(now time.Duration) bool { return now >= p.expires-p.Lease/3 }

// keepLost is how long a lost process without claims is kept.
const keepLost = 10 * time.Minute

// alive returns the process with the id if it is registered and not lost, or nil.
func (s *Store) alive(id string) *process {
	if p := s.processes[id]; p != nil && p.lostAt == 0 {
		return p
	}
	return nil
}

// RegisterProcess implements [webtrigger.ProcessStore].
func (s *Store) RegisterProcess(ctx context.Context, p webtrigger.Process) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if s.processes[p.ID] == nil {
		now := s.elapsed
		s.processes[p.ID] = &process{Process: p, expires: now + p.Lease, contactSince: now, claims: make(map[int64]*run)}
	}
	return nil
}

// RenewProcess implements [webtrigger.ProcessStore].
func (s *Store) RenewProcess(ctx context.Context, p webtrigger.Process) (webtrigger.Renewed, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Renewed{}, err
	}
	defer s.unlock()
	known := s.alive(p.ID)
	if known == nil {
		return webtrigger.Renewed{}, nil
	}
	now := s.elapsed
	if known.silent(now) {
		known.contactSince = now
	}
	known.Process, known.expires = p, now+p.Lease
	renewed := webtrigger.Renewed{Registered: true}
	for _, r := range known.byRun() {
		renewed.Claims = append(renewed.Claims, webtrigger.HeldClaim{
			Lease: webtrigger.Lease{RunID: r.ID, Token: r.token}, Stop: clonePointer(r.stop),
		})
	}
	return renewed, nil
}

// RemoveProcess implements [webtrigger.ProcessStore].
func (s *Store) RemoveProcess(ctx context.Context, processID string) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if p := s.processes[processID]; p != nil && len(p.claims) > 0 {
		return webtrigger.ErrConflict
	}
	delete(s.processes, processID)
	return nil
}

// byRun lists the claims of a process by ascending run id.
func (p *process) byRun() []*run {
	return slices.SortedFunc(maps.Values(p.claims), func(a, b *run) int { return cmp.Compare(a.ID, b.ID) })
}

// mark marks the expired processes as lost that the process me may sweep, and deletes
// those that have been lost for long.
func (s *Store) mark(me *process) {
	now := s.elapsed
	if me == nil || me.silent(now) {
		return
	}
	for id, p := range s.processes {
		switch {
		case p.lostAt == 0 && now >= p.expires && me.contactSince <= now-p.Lease:
			p.lostAt = now
		case p.lostAt != 0 && len(p.claims) == 0 && now-p.lostAt >= keepLost:
			delete(s.processes, id)
		}
	}
}

// stranded lists the claims of lost processes, oldest expiry first.
func (s *Store) stranded() (runs []*run) {
	var lost []*process
	for _, p := range s.processes {
		if p.lostAt != 0 && len(p.claims) > 0 {
			lost = append(lost, p)
		}
	}
	slices.SortFunc(lost, func(a, b *process) int {
		return cmp.Or(cmp.Compare(a.expires, b.expires), cmp.Compare(a.ID, b.ID))
	})
	for _, p := range lost {
		runs = append(runs, p.byRun()...)
	}
	return runs
}
