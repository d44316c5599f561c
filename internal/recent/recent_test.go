package recent_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/recent"
)

func TestMap_limit_isNeverExceeded(t *testing.T) {
	t.Parallel()
	m := recent.New[int, string](2)
	m.Set(1, "a")
	m.Set(2, "b")
	m.Set(1, "c") // it is there: nothing is deleted
	for key, want := range map[int]string{1: "c", 2: "b"} {
		got, ok := m.Get(key)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	m.Set(3, "d") // replaces one of them
	_, one := m.Get(1)
	_, two := m.Get(2)
	require.NotEqual(t, one, two)
	got, ok := m.Get(3)
	require.True(t, ok)
	require.Equal(t, "d", got)
	m.Delete(3)
	_, ok = m.Get(3)
	require.False(t, ok)
}

func TestMap_concurrentUse_isSafe(t *testing.T) {
	t.Parallel()
	m := recent.New[int, int](3)
	var under sync.WaitGroup
	for i := range 8 {
		under.Go(func() {
			for j := range 1000 {
				m.Set(j%5, j%5)
				if got, ok := m.Get(j % 5); ok && got != j%5 {
					t.Errorf("%d remembers %d", j%5, got)
				}
				m.Delete(i % 5)
			}
		})
	}
	under.Wait()
}
