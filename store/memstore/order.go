package memstore

import (
	"cmp"
	"container/heap"
	"iter"
	"slices"
)

// byID has items by id: the item with id n is at n-1. It is nil after it was deleted.
type byID[T any] []*T

// nextID returns the id of the next item.
func (b byID[T]) nextID() int64 { return int64(len(b)) + 1 }

// get returns the item with that id, or nil.
func (b byID[T]) get(id int64) *T {
	if id < 1 || id > int64(len(b)) {
		return nil
	}
	return b[id-1]
}

// newestBefore yields items with a lower id than before (0: all of them), newest
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

// oldestAfter yields items with a higher id than after, oldest first.
func (b byID[T]) oldestAfter(after int64) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for _, x := range b[min(max(after, 0), int64(len(b))):] {
			if x != nil && !yield(x) {
				return
			}
		}
	}
}

// newestBefore yields items with a lower id than before (0: all of them), newest
// first. The items are in the order of their ids.
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

// order gives access to the first of its items in some order. It is a binary heap whose
// items have their index in it, so that any item can be removed.
type order[T any] struct {
	before func(a, b *T) bool
	place  func(x *T) *int
	heap   []*T
}

// first returns the first item, or nil.
func (o *order[T]) first() *T {
	if len(o.heap) == 0 {
		return nil
	}
	return o.heap[0]
}

// add adds an item.
func (o *order[T]) add(x *T) { heap.Push((*heapOf[T])(o), x) }

// remove removes an item, which must be in the order.
func (o *order[T]) remove(x *T) { heap.Remove((*heapOf[T])(o), *o.place(x)) }

// heapOf is an order with the methods of container/heap.
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
