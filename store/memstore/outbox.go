package memstore

import (
	"cmp"
	"time"
)

// outbox holds the pending deliveries: those that are due and free by their
// assistant and host, and aside those that are held or whose time has not come. So a
// backlog of one assistant or host is never looked through for the deliveries of
// another.
//
// A call moves the deliveries in aside whose time is over back to the trays.
type outbox struct {
	aside order[delivery]
	trays map[string]*tray // by assistant
	ready order[tray]      // the trays, by the first due time
}

// tray is the deliveries of one assistant that may be handed out.
type tray struct {
	assistant string
	lines     map[string]*line // by host
	ready     order[line]      // the lines, by the first due time
	placedAt  int
}

// line is the deliveries of one assistant to one host that may be handed out, first
// attempts apart from retries, each in the order of their due times.
type line struct {
	host           string
	first, retries order[delivery]
	placedAt       int
}

func newOutbox() outbox {
	return outbox{
		trays: make(map[string]*tray),
		ready: order[tray]{
			before: func(a, b *tray) bool { return dueBefore(a.earliest(), b.earliest()) < 0 },
			place:  func(t *tray) *int { return &t.placedAt },
		},
		aside: order[delivery]{
			before: func(a, b *delivery) bool { return a.back() < b.back() },
			place:  func(d *delivery) *int { return &d.placedAt },
		},
	}
}

func newTray(assistant string) *tray {
	return &tray{assistant: assistant, lines: make(map[string]*line), ready: order[line]{
		before: func(a, b *line) bool { return dueBefore(a.next(false), b.next(false)) < 0 },
		place:  func(l *line) *int { return &l.placedAt },
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
	if d.aside = now < d.back(); d.aside {
		o.aside.add(d)
		return
	}
	t := o.trays[d.AssistantID]
	if t == nil {
		t = newTray(d.AssistantID)
	}
	l := t.lines[d.Host]
	if l == nil {
		l = &line{host: d.Host, first: earliestDue(), retries: earliestDue()}
	}
	o.withdraw(t)
	t.withdraw(l)
	l.orderOf(d).add(d)
	t.put(l)
	o.put(t)
}

// remove takes a delivery out.
func (o *outbox) remove(d *delivery) {
	if d.aside {
		o.aside.remove(d)
		return
	}
	t := o.trays[d.AssistantID]
	l := t.lines[d.Host]
	o.withdraw(t)
	t.withdraw(l)
	l.orderOf(d).remove(d)
	t.put(l)
	o.put(t)
}

// withdraw takes out a tray while its deliveries change.
func (o *outbox) withdraw(t *tray) {
	if o.trays[t.assistant] != nil {
		o.ready.remove(t)
		delete(o.trays, t.assistant)
	}
}

// put puts a tray back, unless it is empty.
func (o *outbox) put(t *tray) {
	if len(t.lines) > 0 {
		o.trays[t.assistant] = t
		o.ready.add(t)
	}
}

// withdraw takes out a line while its deliveries change.
func (t *tray) withdraw(l *line) {
	if t.lines[l.host] != nil {
		t.ready.remove(l)
		delete(t.lines, l.host)
	}
}

// put puts a line back, unless it is empty.
func (t *tray) put(l *line) {
	if l.next(false) != nil {
		t.lines[l.host] = l
		t.ready.add(l)
	}
}

// earliest is the delivery of a tray with the first due time.
func (t *tray) earliest() *delivery { return t.ready.first().next(false) }

func (l *line) orderOf(d *delivery) *order[delivery] {
	if d.Retry > 0 {
		return &l.retries
	}
	return &l.first
}

// next returns the next delivery of a line, or nil.
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
