package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
	"github.com/webtrigger-go/webtrigger/store/bunstore/pgxlisten"
)

// engine is Web Trigger with River instead of its own queue.
//
//	POST ─► one transaction: conversation, message, run, event, River job ─► 202
//	River ─► runWorker ─► Service.Execute: claim, Runner, result and pending callback
//	Service.Work ─► sweeps runs of lost processes, sends callbacks, forwards cancellations
//
// River decides when and where a run is attempted. Web Trigger's own lease decides its
// outcome. If River starts a job twice, it executes one run. A run that is requeued
// (MaxAttempts) gets a job of its own.
type engine struct {
	svc    *webtrigger.Service
	store  *bunstore.Store
	db     *bun.DB
	listen *pgxpool.Pool // River's connection for LISTEN
	river  *river.Client[*sql.Tx]
}

// runJob is the River job of one run. It names the run; the rest is in the store.
type runJob struct {
	RunID int64 `json:"run_id"`
}

// Kind implements [river.JobArgs].
func (runJob) Kind() string { return "webtrigger_run" }

// runTimeout bounds a run. River's own timeout must be longer: otherwise it ends runs
// as a shutdown does. It must be set, because River starts the jobs of a dead process
// again only after this timeout.
const (
	runTimeout = 15 * time.Minute
	jobTimeout = runTimeout + time.Minute
)

// open migrates the tables of both and connects them. It starts no run before work.
func open(ctx context.Context, dsn string, runner webtrigger.Runner, opts *webtrigger.Options) (_ *engine, err error) {
	e := &engine{}
	sqlDB, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, err
	}
	e.db = bun.NewDB(sqlDB, pgdialect.New())
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	pool, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	pool.MinConns, pool.MaxConns = 0, 1
	if e.listen, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return nil, err
	}
	e.store, err = bunstore.New(e.db, &bunstore.Options{Enqueue: e.enqueue, Listen: pgxlisten.Listen(dsn)})
	if err != nil {
		return nil, err
	}
	if err := e.store.Migrate(ctx); err != nil {
		return nil, err
	}
	o := *opts
	o.NoWorkers, o.RunTimeout = true, runTimeout // River has the workers
	if e.svc, err = webtrigger.New(e.store, runner, &o); err != nil {
		return nil, err
	}

	driver := riverdatabasesql.NewWithPgxListener(sqlDB, e.listen)
	quiet := slog.New(slog.DiscardHandler)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &runWorker{svc: e.svc})
	e.river, err = river.NewClient(driver, &river.Config{
		Logger:               slog.New(slog.DiscardHandler),
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 16}},
		Workers:              workers,
		RescueStuckJobsAfter: jobTimeout,
	})
	return e, err
}

// enqueue inserts a job for each run in the transaction that queues them, so that
// both are stored or neither is.
func (e *engine) enqueue(ctx context.Context, tx bun.Tx, runs []bunstore.RunRef) error {
	jobs := make([]river.InsertManyParams, len(runs))
	for i, run := range runs {
		jobs[i].Args = runJob{RunID: run.RunID}
	}
	_, err := e.river.InsertManyFastTx(ctx, tx.Tx, jobs)
	return err
}

// work executes runs until ctx ends. Then it lets running runs finish within the
// drain time.
func (e *engine) work(ctx context.Context) error {
	if err := e.river.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- e.svc.Work(working) }()
	select {
	case <-ctx.Done():
	case err := <-worked:
		worked <- err
	}
	err := e.stopRiver()
	stop() // until here, heartbeats and cancellations continue
	return errors.Join(err, <-worked)
}

// drainTime is how long runs may continue after work must stop.
const drainTime = 20 * time.Second

func (e *engine) stopRiver() error {
	soft, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := e.river.Stop(soft); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	hard, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return e.river.StopAndCancel(hard) // the runs end as interrupted by shutdown
}

// close closes the connections. work must have returned.
func (e *engine) close() {
	if e.store != nil {
		_ = e.store.Close()
	}
	if e.listen != nil {
		e.listen.Close()
	}
	_ = e.db.Close()
}

// runWorker executes the jobs of River.
type runWorker struct {
	river.WorkerDefaults[runJob]
	svc *webtrigger.Service
}

// conflictPause is how long a job waits if another worker has its run: River started
// the job again while the first attempt still ran, or the run was locked.
const conflictPause = 5 * time.Second

// Work implements [river.Worker]. The job succeeds with any outcome of the run, also
// with a failed one. River retries it only if the database was unavailable.
func (w *runWorker) Work(ctx context.Context, job *river.Job[runJob]) error {
	err := w.svc.Execute(ctx, job.Args.RunID)
	switch {
	case errors.Is(err, webtrigger.ErrNotFound): // erased, or past its retention
		return river.JobCancel(err)
	case errors.Is(err, webtrigger.ErrConflict):
		return river.JobSnooze(conflictPause)
	case err != nil:
		return fmt.Errorf("run %d: %w", job.Args.RunID, err)
	}
	return nil
}

// Timeout implements [river.Worker].
func (w *runWorker) Timeout(*river.Job[runJob]) time.Duration { return jobTimeout }
