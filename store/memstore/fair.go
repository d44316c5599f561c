package memstore

import (
	"iter"

	"github.com/webtrigger-go/webtrigger"
)

// backlog is the open runs of one assistant. It is in Store.turns while it has queued
// runs.
type backlog struct {
	running int
	first   int64              // the lowest id of its queued runs
	keys    map[int64]*keyRuns // those that have open runs, by key id
	place   int
}

// keyRuns is the open runs that one API key of an assistant created. Key 0 stands for
// calls from Go.
type keyRuns struct {
	running int
	queued  order[run] // by id
}

// next returns the oldest queued run whose key may have another running run, or nil.
func (b *backlog) next(maxPerKey int) *run {
	var oldest *run
	for id, key := range b.keys {
		r := key.queued.first()
		full := maxPerKey > 0 && id != 0 && key.running >= maxPerKey
		if r != nil && !full && (oldest == nil || r.ID < oldest.ID) {
			oldest = r
		}
	}
	return oldest
}

// claimable yields the runs that a claim takes, each in its turn. Its caller makes each
// run running before it asks for the next one.
func (s *Store) claimable(claim webtrigger.Claim) iter.Seq[*run] {
	return func(yield func(*run) bool) {
		full := func(running int) bool { return claim.MaxPerAssistant > 0 && running >= claim.MaxPerAssistant }
		if claim.RunID != 0 {
			r := s.runs.get(claim.RunID)
			if r == nil || r.Status != webtrigger.RunQueued || r.Behind {
				return
			}
			b := s.backlogs[r.AssistantID]
			limited := claim.MaxPerKey > 0 && r.KeyID != 0 && b.keys[r.KeyID].running >= claim.MaxPerKey
			if !full(b.running) && !limited {
				yield(r)
			}
			return
		}
		var aside []*backlog // all their keys are full
		defer func() {
			for _, b := range aside {
				s.turns.add(b)
			}
		}()
		for b := s.turns.first(); b != nil && !full(b.running); b = s.turns.first() {
			r := b.next(claim.MaxPerKey)
			if r == nil {
				s.turns.remove(b)
				aside = append(aside, b)
				continue
			}
			if !yield(r) {
				return
			}
		}
	}
}

// queue puts a run into the backlog of its assistant.
func (s *Store) queue(r *run) { s.account(r, func(k *keyRuns) { k.queued.add(r) }, 0) }

// unqueue takes a run out of the backlog.
func (s *Store) unqueue(r *run) { s.account(r, func(k *keyRuns) { k.queued.remove(r) }, 0) }

// starts counts a run that is running now.
func (s *Store) starts(r *run) { s.account(r, func(k *keyRuns) { k.running++ }, 1) }

// stops counts a run that is not running any more.
func (s *Store) stops(r *run) { s.account(r, func(k *keyRuns) { k.running-- }, -1) }

// account changes the backlog of a run and puts it in its new place.
func (s *Store) account(r *run, change func(*keyRuns), running int) {
	b := s.backlogs[r.AssistantID]
	if b == nil {
		b = &backlog{keys: make(map[int64]*keyRuns)}
		s.backlogs[r.AssistantID] = b
	}
	if b.first != 0 {
		s.turns.remove(b)
	}
	k := b.keys[r.KeyID]
	if k == nil {
		k = &keyRuns{queued: order[run]{
			before: func(a, b *run) bool { return a.ID < b.ID },
			place:  func(r *run) *int { return &r.queuedAt },
		}}
		b.keys[r.KeyID] = k
	}
	change(k)
	b.running += running
	if k.running == 0 && k.queued.first() == nil {
		delete(b.keys, r.KeyID)
	}
	b.first = 0
	if next := b.next(0); next != nil {
		b.first = next.ID
		s.turns.add(b)
	}
	if len(b.keys) == 0 {
		delete(s.backlogs, r.AssistantID)
	}
}
