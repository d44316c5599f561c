package bunstore

import (
	"cmp"
	"slices"
)

// waitlist holds the calls that wait for a batch, in groups: those of one assistant, for
// example. Within a group they are in order. Groups take turns, so that a group with many
// calls or large ones delays another one by one batch.
//
// The bounds are for all calls together. Where they are reached, a group gives way that
// has more than its share of the places or of the bytes: see add.
type waitlist[A, R any] struct {
	groups map[any]*group[A, R]
	turns  []*group[A, R] // with calls that wait, in the order of their turns
	count  int
	bytes  int

	maxBytes int // that wait; 0: any number

	// slow are the groups whose last batch took long. See batcher.eligible.
	slow     map[any]bool
	slowBusy int // their batches under way
}

type group[A, R any] struct {
	key   any
	calls []*call[A, R]
	bytes int
	busy  int // batches under way; exclusive batchers only
}

const (
	maxQueue      = 10_000   // calls that wait for one kind of batch; more are rejected
	maxQueueBytes = 64 << 20 // what they have together; a single call may have more
	manySlow      = 1000     // groups that are known to be slow
)

func newWaitlist[A, R any]() waitlist[A, R] {
	return waitlist[A, R]{groups: make(map[any]*group[A, R]), slow: make(map[any]bool)}
}

// fits reports whether calls with n bytes together are within the bounds.
func (w *waitlist[A, R]) fits(count, n int) bool {
	return count <= maxQueue && (w.maxBytes == 0 || n <= w.maxBytes || count == 1)
}

// add puts a call at the end of its group. If the bounds are reached, the newest calls of
// groups with more than their share are removed. If that is the call's own group, the
// call is rejected.
func (w *waitlist[A, R]) add(key any, c *call[A, R]) (gaveWay []*call[A, R], ok bool) {
	g := w.group(key)
	if !w.fits(w.count+1, w.bytes+c.weight) {
		groups := len(w.turns)
		if len(g.calls) == 0 {
			groups++
		}
		if len(g.calls)+1 > maxQueue/groups || w.maxBytes > 0 && g.bytes+c.weight > w.maxBytes/groups {
			w.release(g)
			return nil, false
		}
	}
	for !w.fits(w.count+1, w.bytes+c.weight) {
		measure := func(g *group[A, R]) int { return g.bytes }
		if w.count+1 > maxQueue {
			measure = func(g *group[A, R]) int { return len(g.calls) }
		}
		most := slices.MaxFunc(w.turns, func(a, b *group[A, R]) int { return cmp.Compare(measure(a), measure(b)) })
		gaveWay = append(gaveWay, w.removeAt(most, len(most.calls)-1))
	}
	w.insert(g, len(g.calls), c)
	return gaveWay, true
}

// putBack puts calls of batches back at the head of their groups, in order, past the
// bounds.
func (w *waitlist[A, R]) putBack(key func(c *call[A, R]) any, calls []*call[A, R]) {
	for _, c := range slices.Backward(calls) {
		w.insert(w.group(key(c)), 0, c)
	}
}

// remove takes a call out, and reports whether it waited.
func (w *waitlist[A, R]) remove(key any, c *call[A, R]) bool {
	g := w.groups[key]
	if g == nil {
		return false
	}
	i := slices.Index(g.calls, c)
	if i < 0 {
		return false
	}
	w.removeAt(g, i)
	return true
}

func (w *waitlist[A, R]) group(key any) *group[A, R] {
	g := w.groups[key]
	if g == nil {
		g = &group[A, R]{key: key}
		w.groups[key] = g
	}
	return g
}

func (w *waitlist[A, R]) insert(g *group[A, R], at int, c *call[A, R]) {
	if len(g.calls) == 0 {
		w.turns = append(w.turns, g)
	}
	g.calls = slices.Insert(g.calls, at, c)
	g.bytes += c.weight
	w.count++
	w.bytes += c.weight
}

func (w *waitlist[A, R]) removeAt(g *group[A, R], i int) *call[A, R] {
	c := g.calls[i]
	w.takeAt(g, i)
	if len(g.calls) == 0 {
		w.turns = slices.DeleteFunc(w.turns, func(t *group[A, R]) bool { return t == g })
		w.release(g)
	}
	return c
}

// takeAt takes a call out. The group keeps its turn until dropEmpty.
func (w *waitlist[A, R]) takeAt(g *group[A, R], i int) {
	g.bytes -= g.calls[i].weight
	w.count--
	w.bytes -= g.calls[i].weight
	if i == 0 {
		g.calls[0] = nil
		g.calls = g.calls[1:]
	} else {
		g.calls = slices.Delete(g.calls, i, i+1)
	}
}

// first gives a group the next turn, and those before it the last ones.
func (w *waitlist[A, R]) first(g *group[A, R]) {
	i := slices.Index(w.turns, g)
	w.turns = slices.Concat(w.turns[i:], w.turns[:i])
}

// pass gives a group the last turn.
func (w *waitlist[A, R]) pass(g *group[A, R]) {
	i := slices.Index(w.turns, g)
	w.turns = append(slices.Delete(w.turns, i, i+1), g)
}

// dropEmpty ends the turns of groups without calls.
func (w *waitlist[A, R]) dropEmpty() {
	w.turns = slices.DeleteFunc(w.turns, func(g *group[A, R]) bool {
		w.release(g)
		return len(g.calls) == 0
	})
}

// release drops a group that has no calls.
func (w *waitlist[A, R]) release(g *group[A, R]) {
	if len(g.calls) == 0 && g.busy == 0 {
		delete(w.groups, g.key)
	}
}

// leave ends a batch of a group, and records whether it took long.
func (w *waitlist[A, R]) leave(key any, long bool) {
	g := w.group(key)
	g.busy--
	w.release(g)
	if !long {
		delete(w.slow, key)
		return
	}
	if len(w.slow) >= manySlow {
		clear(w.slow)
	}
	w.slow[key] = true
}
