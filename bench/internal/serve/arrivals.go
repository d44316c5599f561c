package serve

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

// instants are moments by name. The zero value is empty.
type instants struct {
	mu sync.Mutex
	at child.Counters
}

func (i *instants) mark(name string) { i.set(name, time.Now()) }

// set keeps a moment in microseconds of Unix time, which a float64 holds to a
// quarter of one.
func (i *instants) set(name string, at time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.at == nil {
		i.at = child.Counters{}
	}
	i.at[name] = float64(at.UnixNano()) / 1e3
}

func (i *instants) all() child.Counters {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := make(child.Counters, len(i.at))
	for name, at := range i.at {
		all[name] = at
	}
	return all
}

// arrivalGap is the mean time between two arrivals.
const arrivalGap = 10 * time.Millisecond

// arrivals is a server whose Do creates n triggers at random times and
// returns when each of them was committed; its counters are the starts in
// seen. insert commits one and returns its name and the time of its commit.
func arrivals(seen *instants, insert func(ctx context.Context, name string) (string, time.Time, error)) *child.Server {
	var names atomic.Int64
	return &child.Server{
		Counters: seen.all,
		Do: func(ctx context.Context, n int) (child.Counters, error) {
			var (
				committed instants
				under     sync.WaitGroup
				failed    = make(chan error, n)
			)
			for range n {
				time.Sleep(arrivalGap/2 + rand.N(arrivalGap))
				under.Go(func() {
					name, at, err := insert(ctx, "arrival "+strconv.FormatInt(names.Add(1), 10))
					if err != nil {
						failed <- err
						return
					}
					committed.set(name, at)
				})
			}
			under.Wait()
			select {
			case err := <-failed:
				return nil, err
			default:
				return committed.all(), nil
			}
		},
	}
}
