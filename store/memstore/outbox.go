package memstore

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// outbox holds the pending deliveries: those that are due and free by their
// host, and aside those that are held or whose time has not come. So a backlog of
// one host is never looked through for the deliveries of another.
//
// What is aside comes back when a call looks after its time is over.
type outbox struct {
	aside order[delivery]
	hosts map[string]*line
}

// line is the deliveries of one host that may be handed out, first attempts
// apart from retries, each in the order of their due times.
type line struct{ first, retries order[delivery] }

func newOutbox() outbox {
	return outbox{hosts: make(map[string]*line), aside: order[delivery]{
		before: func(a, b *delivery) bool { return a.back() < b.back() },
		place:  func(d *delivery) *int { return &d.placedAt },
	}}
}

// back is when a pending delivery may be handed out.
func (d *delivery) back() time.Duration { return max(d.due, d.expires) }

func earliestDue() order[delivery] {
	return order[delivery]{
		before: func(a, b *delivery) bool { return dueBefore(a, b) < 0 },
		place:  func(d *delivery) *int { return &d.placedAt },
	}
}

func dueBefore(a, b *delivery) int {
	return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.ID, b.ID))
}

// add puts a delivery where it belongs now.
func (o *outbox) add(d *delivery, now time.Duration) {
	d.aside = now < d.back()
	o.orderOf(d).add(d)
}

// remove takes a delivery out.
func (o *outbox) remove(d *delivery) {
	o.orderOf(d).remove(d)
	if l := o.hosts[d.Host]; l != nil && l.first.first() == nil && l.retries.first() == nil {
		delete(o.hosts, d.Host)
	}
}

// orderOf is where a pending delivery is, or goes.
func (o *outbox) orderOf(d *delivery) *order[delivery] {
	if d.aside {
		return &o.aside
	}
	l := o.hosts[d.Host]
	if l == nil {
		l = &line{earliestDue(), earliestDue()}
		o.hosts[d.Host] = l
	}
	if d.Retry > 0 {
		return &l.retries
	}
	return &l.first
}

// next is the delivery of a line that is to be handed out next, or nil.
func (l *line) next(resting bool) *delivery {
	first, retry := l.first.first(), l.retries.first()
	if retry == nil || resting {
		return first
	}
	if first == nil || dueBefore(retry, first) < 0 {
		return retry
	}
	return first
}

// pick takes out what LeaseDeliveries hands out, in its order.
func (o *outbox) pick(claim webtrigger.DeliveryQuery, now time.Duration) []*delivery {
	for d := o.aside.first(); d != nil && now >= d.back(); d = o.aside.first() {
		o.aside.remove(d)
		o.add(d, now)
	}
	var turns turns
	for host := range o.hosts {
		t := turn{host: host, busy: claim.Busy[host], resting: slices.Contains(claim.Resting, host)}
		if t.next = o.hosts[host].next(t.resting); t.next != nil && t.mayHave(claim.PerHost) {
			turns = append(turns, t)
		}
	}
	heap.Init(&turns)
	var picked []*delivery
	for len(picked) < claim.Limit && len(turns) > 0 {
		t := &turns[0]
		picked = append(picked, t.next)
		o.remove(t.next)
		t.busy++
		t.next = nil
		if l := o.hosts[t.host]; l != nil && t.mayHave(claim.PerHost) {
			t.next = l.next(t.resting)
		}
		if t.next == nil {
			heap.Pop(&turns)
		} else {
			heap.Fix(&turns, 0)
		}
	}
	return picked
}

// turn is one host among those that wait for theirs.
type turn struct {
	host    string
	busy    int // deliveries under way
	resting bool
	next    *delivery
}

func (t *turn) mayHave(perHost int) bool { return perHost <= 0 || t.busy < perHost }

// turns is a heap: the host with the fewest deliveries under way is first.
type turns []turn

func (t turns) Len() int { return len(t) }

func (t turns) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(t[i].busy, t[j].busy), dueBefore(t[i].next, t[j].next)) < 0
}

func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *turns) Push(x any)   { *t = append(*t, x.(turn)) }

func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
