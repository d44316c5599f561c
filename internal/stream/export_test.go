package stream

// SetWindow makes the window of tails and the pages of reads small.
func (h *Hub) SetWindow(frames, bytes, page int) {
	h.windowFrames, h.windowBytes = frames, bytes
	h.tailPage, h.ownPage = Query{Limit: page, MaxBytes: bytes}, Query{Limit: page, MaxBytes: bytes}
}

// Memory returns how many bytes of encoded events the tails keep.
func (h *Hub) Memory() int64 { return h.held.Load() }

// Keys returns how many keys have streams or waits.
func (h *Hub) Keys() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.perKey)
}

// Tails returns how many conversations are watched.
func (h *Hub) Tails() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.tails)
}

// Streaming returns how many streams are open.
func (h *Hub) Streaming() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.open)
}

// Join waits for a run as Await does, until leave.
func (h *Hub) Join(conversationID, runID int64) (leave func()) {
	a := h.joinAwaited(conversationID, runID, 0)
	return func() { h.leaveAwaited(conversationID, a) }
}
