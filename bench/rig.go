package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
	"github.com/webtrigger-go/webtrigger/bench/internal/load"
	"github.com/webtrigger-go/webtrigger/bench/internal/postgres"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

// rig is what a variant has in one round. What it starts and creates goes when
// the variant is over.
type rig struct {
	bench   *bench
	variant string // names files
	clients int
	n       int
	kept    *keeper
	keeper
}

// keeper runs clean-up functions, the last one first.
type keeper struct {
	undo []func()
	dsns map[string]string // of kept databases, by name
}

func (k *keeper) later(f func()) { k.undo = append(k.undo, f) }

func (k *keeper) close() {
	for len(k.undo) > 0 {
		last := len(k.undo) - 1
		k.undo[last]()
		k.undo = k.undo[:last]
	}
}

// postgres returns the server, which is started for the first one who asks.
func (r *rig) postgres(ctx context.Context) (*postgres.Server, error) {
	if r.bench.server == nil {
		server, err := postgres.Start(ctx, r.bench.dsn)
		if err != nil {
			return nil, err
		}
		r.bench.server = server
	}
	return r.bench.server, nil
}

// database returns the DSN of an empty database. Dropping it makes a checkpoint,
// so that every variant begins right after one.
func (r *rig) database(ctx context.Context) (string, error) { return r.databaseOf(ctx, &r.keeper) }

func (r *rig) databaseOf(ctx context.Context, k *keeper) (string, error) {
	server, err := r.postgres(ctx)
	if err != nil {
		return "", err
	}
	dsn, err := server.Database(ctx)
	if err == nil {
		k.later(func() { _ = server.Drop(context.WithoutCancel(ctx), dsn) })
	}
	return dsn, err
}

// keptDatabase returns the database of this name, which lasts as long as the
// path is measured, and whether it is new.
func (r *rig) keptDatabase(ctx context.Context, name string) (dsn string, fresh bool, err error) {
	if dsn, ok := r.kept.dsns[name]; ok {
		return dsn, false, nil
	}
	if dsn, err = r.databaseOf(ctx, r.kept); err != nil {
		return "", false, err
	}
	if r.kept.dsns == nil {
		r.kept.dsns = map[string]string{}
	}
	r.kept.dsns[name] = dsn
	return dsn, true, nil
}

// start starts a child.
func (r *rig) start(kind string, config serve.Config) (*child.Process, error) {
	p, err := child.Start(kind, config)
	if err == nil {
		r.later(p.Stop)
	}
	return p, err
}

// startOn starts a child on a database of its own, unless the configuration has
// one or needs none.
func (r *rig) startOn(ctx context.Context, kind string, config serve.Config) (p *child.Process, err error) {
	switch {
	case config.DSN != "" || config.Store == serve.Memory:
	case config.Store == serve.SQLite:
		dir, err := os.MkdirTemp("", "bench-")
		if err != nil {
			return nil, err
		}
		r.later(func() { _ = os.RemoveAll(dir) })
		config.DSN = filepath.Join(dir, "webtrigger.db")
	default:
		if config.DSN, err = r.database(ctx); err != nil {
			return nil, err
		}
	}
	return r.start(kind, config)
}

// warmUp is how long a server is loaded before it is measured. Postgres plans each of
// the first five executions of a prepared statement on a connection.
func (r *rig) warmUp() time.Duration { return min(time.Second, r.bench.window) }

// load loads a server with the same request over and over and returns the usual
// figures.
func (r *rig) load(p *child.Process, want int, next func(client, i int) []byte) (report.Figures, error) {
	if _, err := load.Run(p.Addr, r.clients, r.warmUp(), want, next); err != nil {
		return nil, err
	}
	var result *load.Result
	costs, err := r.metered(p, func() (n int, err error) {
		result, err = load.Run(p.Addr, r.clients, r.bench.window, want, next)
		if err != nil {
			return 0, err
		}
		return result.Requests, nil
	})
	if err != nil {
		return nil, err
	}
	costs["req/s"] = result.Rate()
	costs["p50 µs"] = report.Quantile(result.Latencies, 0.5)
	costs["p99 µs"] = report.Quantile(result.Latencies, 0.99)
	return costs, nil
}

// metered calls do and returns the processor time of each of its n operations, in the
// child and in Postgres.
func (r *rig) metered(p *child.Process, do func() (n int, err error)) (report.Figures, error) {
	profile := r.bench.profile
	if profile != "" {
		if err := p.StartProfile(); err != nil {
			return nil, err
		}
	}
	own, known := p.CPU()
	database, knownToo := r.databaseCPU()
	n, err := do()
	if err != nil {
		return nil, err
	}
	figures := report.Figures{}
	if now, ok := p.CPU(); ok && known {
		figures["server µs"] = report.Micros(now-own) / float64(n)
	}
	if now, ok := r.databaseCPU(); ok && knownToo {
		figures["postgres µs"] = report.Micros(now-database) / float64(n)
	}
	if profile != "" {
		err = p.StopProfile(filepath.Join(profile, r.variant+".pprof"))
	}
	return figures, err
}

func (r *rig) databaseCPU() (used time.Duration, ok bool) {
	if r.bench.server == nil {
		return 0, false
	}
	return r.bench.server.CPU()
}

// timed has a child do n operations and returns the number of operations per second.
func (r *rig) timed(p *child.Process, figure string, n int) (report.Figures, error) {
	var took float64
	figures, err := r.metered(p, func() (int, error) {
		done, err := p.Do(n)
		took = done["seconds"]
		return n, err
	})
	if err != nil {
		return nil, err
	}
	if took <= 0 {
		return nil, fmt.Errorf("%d took no time", n)
	}
	figures[figure] = float64(n) / took
	return figures, nil
}
