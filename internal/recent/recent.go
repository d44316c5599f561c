// Package recent remembers values by key, up to a limit.
package recent

import "sync"

// Map remembers a limited number of values. If it is full, a new key replaces any other one.
// It is safe for concurrent use.
type Map[K comparable, V any] struct {
	limit int

	mu     sync.RWMutex
	values map[K]V
}

// New returns a map of at most limit values, which must be positive.
func New[K comparable, V any](limit int) *Map[K, V] {
	return &Map[K, V]{limit: limit, values: make(map[K]V)}
}

// Get returns the value of a key.
func (m *Map[K, V]) Get(key K) (value V, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	value, ok = m.values[key]
	return value, ok
}

// Set remembers a value.
func (m *Map[K, V]) Set(key K, value V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.values[key]; !known && len(m.values) >= m.limit {
		for other := range m.values {
			delete(m.values, other)
			break
		}
	}
	m.values[key] = value
}

// Delete deletes a key.
func (m *Map[K, V]) Delete(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
}
