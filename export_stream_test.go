package webtrigger

// SetStreamWindow makes the window of tails and the pages of reads small.
func (s *Service) SetStreamWindow(frames, bytes, page int) {
	s.streams.windowFrames, s.streams.windowBytes, s.streams.pageSize = frames, bytes, page
}

// Tails returns how many conversations are watched.
func (s *Service) Tails() int {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	return len(s.streams.tails)
}
