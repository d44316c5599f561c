package serve

import (
	"sync"
	"sync/atomic"
)

// inParallel calls piece for 0 to n-1 from so many goroutines, and returns an
// error that one of them returned, if any did.
func inParallel(goroutines, n int, piece func(i int) error) error {
	var (
		under  sync.WaitGroup
		next   atomic.Int64
		failed atomic.Pointer[error]
	)
	for range goroutines {
		under.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := piece(i); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	under.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
