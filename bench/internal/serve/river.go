package serve

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

// River is what a team would take for the same purpose: a job queue on Postgres
// that can insert a job in the transaction of the rows it is about.

// job is the job of a trigger.
type job struct {
	ConversationID int64   `json:"conversation_id,omitempty"`
	Message        string  `json:"message,omitempty"`
	CallbackURL    *string `json:"callback_url,omitempty"`
	Name           string  `json:"name,omitempty"`
}

func (job) Kind() string { return "trigger" }

// worker works jobs off by calling a function.
type worker struct {
	river.WorkerDefaults[job]
	work func(job)
}

func (w *worker) Work(_ context.Context, j *river.Job[job]) error {
	w.work(j.Args)
	return nil
}

// pace is how River works. The zero value is its default.
type pace struct {
	workers  int
	cooldown time.Duration // between two looks for jobs, and between two notifications of the inserting side
	poll     time.Duration
}

// newRiver returns a client that works jobs off once it is started; with a nil
// function it only inserts.
func newRiver(pool *pgxpool.Pool, work func(job), p pace) (*river.Client[pgx.Tx], error) {
	config := &river.Config{
		Logger:        slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		FetchCooldown: p.cooldown, FetchPollInterval: p.poll,
	}
	if work != nil {
		config.Workers = river.NewWorkers()
		river.AddWorker(config.Workers, &worker{work: work})
		config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: p.workers}}
		config.JobTimeout = -1
	}
	return river.NewClient(riverpgxv5.New(pool), config)
}

// newRiverTables is newTables with River's beside them.
func newRiverTables(ctx context.Context, dsn string) (*pgxpool.Pool, error) {
	pool, err := newTables(ctx, dsn)
	if err != nil {
		return nil, err
	}
	return pool, migrateRiver(ctx, pool)
}

func migrateRiver(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// serveRiverInsert accepts by inserting a job, and nothing else.
func serveRiverInsert(ctx context.Context, c Config) (*child.Server, error) {
	pool, err := newRiverTables(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	client, err := newRiver(pool, nil, pace{})
	if err != nil {
		return nil, err
	}
	return &child.Server{Measured: front(func(ctx context.Context, t *trigger) (int64, error) {
		inserted, err := client.Insert(ctx, job{Message: t.Message, CallbackURL: t.CallbackURL}, nil)
		if err != nil {
			return 0, err
		}
		return inserted.Job.ID, nil
	})}, nil
}

// serveRiverTx accepts by inserting a conversation, its message and the job in
// one transaction: the same durable outcome as the product's.
func serveRiverTx(ctx context.Context, c Config) (*child.Server, error) {
	pool, err := newRiverTables(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	client, err := newRiver(pool, nil, pace{})
	if err != nil {
		return nil, err
	}
	return &child.Server{Measured: front(insertTx(pool, client))}, nil
}

const conversationStatement = `
WITH c AS (INSERT INTO conversations (assistant_id, key_id, subject, metadata) VALUES ('1', 1, $1, $2) RETURNING id),
	m AS (INSERT INTO messages (conversation_id, role, content) SELECT id, 'user', $3::text FROM c)
SELECT id FROM c`

func insertTx(pool *pgxpool.Pool, client *river.Client[pgx.Tx]) func(context.Context, *trigger) (int64, error) {
	return func(ctx context.Context, t *trigger) (id int64, err error) {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if err := tx.QueryRow(ctx, conversationStatement, t.Subject, t.metadata(), t.Message).Scan(&id); err != nil {
				return err
			}
			_, err := client.InsertTx(ctx, tx, job{ConversationID: id, CallbackURL: t.CallbackURL}, nil)
			return err
		})
		return id, err
	}
}
