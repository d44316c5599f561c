package webtrigger

// SetStreamWindow makes the window of tails and the pages of reads small.
func (s *Service) SetStreamWindow(frames, bytes, page int) {
	s.streams.windowFrames, s.streams.windowBytes = frames, bytes
	s.streams.tailPage, s.streams.ownPage = EventQuery{Limit: page, MaxBytes: bytes}, EventQuery{Limit: page, MaxBytes: bytes}
}

// StreamMemory returns how many bytes of encoded events the tails keep.
func (s *Service) StreamMemory() int64 { return s.streams.held.Load() }

// KeysStreaming returns how many keys have streams open.
func (s *Service) KeysStreaming() int {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	return len(s.streams.perKey)
}

// Tails returns how many conversations are watched.
func (s *Service) Tails() int {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	return len(s.streams.tails)
}

// Streaming returns how many streams are open.
func (s *Service) Streaming() int {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	return len(s.streams.open)
}
