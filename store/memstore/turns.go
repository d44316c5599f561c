package memstore

import (
	"cmp"
	"container/heap"
	"maps"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// picking is one selection of deliveries. It opens the trays and lines that it may
// need, those with the earliest due times first: one at a time, and those that the
// claim names besides. What it does not need costs nothing.
type picking struct {
	*outbox
	claim   webtrigger.DeliveryQuery
	taken   map[string]int // by host, those in progress included
	resting map[string]bool
	opened  []*opened
	waiting turns
}

// opened is a tray from which deliveries are taken.
type opened struct {
	tray  *tray
	busy  int // of the assistant, with what was taken
	lines []*openLine
	from  *openLine // has next
	next  *delivery
}

type openLine struct {
	*line
	busy int // of the host, with what was taken from this line
}

// pick takes out what LeaseDeliveries hands out, in its order.
func (o *outbox) pick(claim webtrigger.DeliveryQuery, now time.Duration) (picked []*delivery) {
	for d := o.aside.first(); d != nil && now >= d.back(); d = o.aside.first() {
		o.aside.remove(d)
		o.add(d, now)
	}
	p := &picking{outbox: o, claim: claim, taken: maps.Clone(claim.Busy), resting: make(map[string]bool)}
	if p.taken == nil {
		p.taken = make(map[string]int)
	}
	for _, host := range claim.Resting {
		p.resting[host] = true
	}
	defer p.close()
	var over []*opened // have their share, and more that waits
	for len(picked) < claim.Limit {
		t := p.first()
		switch {
		case t == nil && len(over) == 1 && claim.Alone > p.claim.PerAssistant:
			p.claim.PerAssistant = claim.Alone
			heap.Push(&p.waiting, over[0])
			over = nil
			continue
		case t == nil, t.busy > 0 && len(picked) >= claim.Limit-claim.Reserved:
			return picked
		case p.claim.PerAssistant > 0 && t.busy >= p.claim.PerAssistant:
			over = append(over, heap.Pop(&p.waiting).(*opened))
			continue
		}
		picked = append(picked, p.take(t))
	}
	return picked
}

// first is the tray whose turn it is, or nil.
func (p *picking) first() *opened {
	for {
		if len(p.waiting) > 0 {
			t := p.waiting[0]
			if !p.mayHave(t.from.host) { // others have filled it
				p.look(t)
				continue
			}
			if closed := p.ready.first(); closed == nil || t.busy == 0 && dueBefore(t.next, closed.earliest()) < 0 {
				return t
			}
		}
		closed := p.ready.first()
		if closed == nil {
			return nil
		}
		p.withdraw(closed)
		t := &opened{tray: closed, busy: p.claim.BusyAssistants[closed.assistant]}
		p.opened = append(p.opened, t)
		if p.choose(t); t.next != nil {
			heap.Push(&p.waiting, t)
		}
	}
}

// take takes the next delivery of the first tray.
func (p *picking) take(t *opened) *delivery {
	d := t.next
	t.from.orderOf(d).remove(d)
	t.busy++
	t.from.busy++
	p.taken[t.from.host]++
	p.look(t)
	return d
}

// look chooses the next delivery of the first tray, and puts the tray in its place.
func (p *picking) look(t *opened) {
	if p.choose(t); t.next == nil {
		heap.Pop(&p.waiting)
	} else {
		heap.Fix(&p.waiting, 0)
	}
}

// choose sets the next delivery of a tray. It opens lines until one has nothing in
// progress: those behind are due later.
func (p *picking) choose(t *opened) {
	t.from, t.next = nil, nil
	idle := false
	for _, l := range t.lines {
		p.consider(t, l)
		idle = idle || p.idle(l)
	}
	for !idle && t.tray.ready.first() != nil {
		closed := t.tray.ready.first()
		t.tray.withdraw(closed)
		l := &openLine{closed, p.claim.Busy[closed.host]}
		t.lines = append(t.lines, l)
		p.consider(t, l)
		idle = p.idle(l)
	}
}

// idle reports whether a line has nothing in progress, and its earliest delivery may
// be taken.
func (p *picking) idle(l *openLine) bool {
	return l.busy == 0 && !p.resting[l.host] && l.next(false) != nil && p.mayHave(l.host)
}

// consider makes the delivery of a line the next one of its tray, if it comes first.
func (p *picking) consider(t *opened, l *openLine) {
	d := l.next(p.resting[l.host])
	if d == nil || !p.mayHave(l.host) {
		return
	}
	if t.next == nil || cmp.Or(cmp.Compare(l.busy, t.from.busy), dueBefore(d, t.next)) < 0 {
		t.from, t.next = l, d
	}
}

func (p *picking) mayHave(host string) bool {
	return p.claim.PerHost <= 0 || p.taken[host] < p.claim.PerHost
}

// close puts everything back that was not taken.
func (p *picking) close() {
	for _, t := range p.opened {
		for _, l := range t.lines {
			t.tray.put(l.line)
		}
		p.put(t.tray)
	}
}

// turns is a heap: the assistant with the fewest deliveries in progress is first.
type turns []*opened

func (t turns) Len() int { return len(t) }

func (t turns) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(t[i].busy, t[j].busy), dueBefore(t[i].next, t[j].next)) < 0
}

func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *turns) Push(x any)   { *t = append(*t, x.(*opened)) }

func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
