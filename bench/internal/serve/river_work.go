package serve

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

// serveRiverWork accepts as serveRiverTx does and works the jobs off beside it.
func serveRiverWork(ctx context.Context, c Config) (*child.Server, error) {
	pool, err := newRiverTables(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	client, err := newRiver(pool, func(job) {}, pace{c.Workers, time.Millisecond, 20 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	var completed atomic.Int64
	ended, _ := client.SubscribeConfig(&river.SubscribeConfig{ChanSize: 100_000, Kinds: []river.EventKind{river.EventKindJobCompleted}})
	go func() {
		for range ended {
			completed.Add(1)
		}
	}()
	return &child.Server{
		Measured: front(insertTx(pool, client)),
		Counters: func() child.Counters { return child.Counters{"completed": float64(completed.Load())} },
	}, client.Start(ctx)
}

// serveRiverDrain has jobs that wait, and works them off on Do with the settings
// of River's own benchmark.
func serveRiverDrain(ctx context.Context, c Config) (*child.Server, error) {
	pool, err := newRiverTables(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	client, err := newRiver(pool, func(job) {}, pace{c.Workers, 2 * time.Millisecond, 20 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	for done := 0; done < c.Rows; {
		batch := make([]river.InsertManyParams, min(2000, c.Rows-done))
		for i := range batch {
			done++
			batch[i].Args = job{ConversationID: int64(done)}
		}
		if _, err := client.InsertManyFast(ctx, batch); err != nil {
			return nil, err
		}
	}
	if _, err := pool.Exec(ctx, `ANALYZE`); err != nil {
		return nil, err
	}
	return &child.Server{Do: func(_ context.Context, n int) (child.Counters, error) {
		ended, _ := client.SubscribeConfig(&river.SubscribeConfig{ChanSize: n + 1, Kinds: []river.EventKind{river.EventKindJobCompleted}})
		began := time.Now()
		if err := client.Start(ctx); err != nil {
			return nil, err
		}
		for range n {
			<-ended
		}
		return child.Counters{"seconds": time.Since(began).Seconds()}, nil
	}}, nil
}

// serveRiverPickup inserts jobs on Do, or with workers takes them. The tables
// are made by the one with workers, which is to come first.
func serveRiverPickup(ctx context.Context, c Config) (*child.Server, error) {
	pool, err := newPool(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	var seen instants
	var work func(job)
	if c.Workers > 0 {
		if err := migrateRiver(ctx, pool); err != nil {
			return nil, err
		}
		work = func(j job) { seen.mark(j.Name) }
	}
	client, err := newRiver(pool, work, pace{c.Workers, time.Millisecond, time.Second})
	if err != nil {
		return nil, err
	}
	server := arrivals(&seen, func(ctx context.Context, name string) (string, time.Time, error) {
		_, err := client.Insert(ctx, job{Name: name}, nil)
		return name, time.Now(), err
	})
	if c.Workers == 0 {
		return server, nil
	}
	return server, client.Start(ctx)
}
