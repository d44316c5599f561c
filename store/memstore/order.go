package memstore

import (
	"cmp"
	"container/heap"
	"iter"
	"slices"
)

// byID holds things by id: the one with id n lies at n-1, nil once it is forgotten.
type byID[T any] []*T

// nextID is the id of the thing that is added next.
func (b byID[T]) nextID() int64 { return int64(len(b)) + 1 }

// get returns the thing with that id, or nil.
func (b byID[T]) get(id int64) *T {
	if id < 1 || id > int64(len(b)) {
		return nil
	}
	return b[id-1]
}

// newestBefore yields things with a lower id than before (0: all of them), newest
// first.
func (b byID[T]) newestBefore(before int64) iter.Seq[*T] {
	if before < 1 || before > b.nextID() {
		before = b.nextID()
	}
	return func(yield func(*T) bool) {
		for _, x := range slices.Backward(b[:before-1]) {
			if x != nil && !yield(x) {
				return
			}
		}
	}
}

// newestBefore yields items with a lower id than before (0: all of them), newest
// first. The items lie in the order of their ids.
func newestBefore[T interface{ id() int64 }](items []T, before int64) iter.Seq[T] {
	n := len(items)
	if before > 0 {
		n, _ = slices.BinarySearchFunc(items, before, func(x T, id int64) int { return cmp.Compare(x.id(), id) })
	}
	return func(yield func(T) bool) {
		for _, x := range slices.Backward(items[:n]) {
			if !yield(x) {
				return
			}
		}
	}
}

// order keeps things so that the first by some key is at hand: a binary heap
// whose members know their place in it, so that any of them can leave.
type order[T any] struct {
	before func(a, b *T) bool
	place  func(x *T) *int
	heap   []*T
}

// first returns the first thing, or nil.
func (o *order[T]) first() *T {
	if len(o.heap) == 0 {
		return nil
	}
	return o.heap[0]
}

// add puts a thing in its place.
func (o *order[T]) add(x *T) { heap.Push((*heapOf[T])(o), x) }

// remove takes out a thing that is in.
func (o *order[T]) remove(x *T) { heap.Remove((*heapOf[T])(o), *o.place(x)) }

// heapOf is an order as container/heap wants to see it.
type heapOf[T any] order[T]

func (h *heapOf[T]) Len() int           { return len(h.heap) }
func (h *heapOf[T]) Less(i, j int) bool { return h.before(h.heap[i], h.heap[j]) }

func (h *heapOf[T]) Swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	*h.place(h.heap[i]), *h.place(h.heap[j]) = i, j
}

func (h *heapOf[T]) Push(x any) {
	*h.place(x.(*T)) = len(h.heap)
	h.heap = append(h.heap, x.(*T))
}

func (h *heapOf[T]) Pop() any {
	last := len(h.heap) - 1
	x := h.heap[last]
	h.heap[last] = nil
	h.heap = h.heap[:last]
	return x
}
