package bunstore

// KnownConnections is how many connections have statements prepared.
func (s *Store) KnownConnections() int {
	s.direct.mu.Lock()
	defer s.direct.mu.Unlock()
	return len(s.direct.conns)
}
