//go:build unix

package chaostest_test

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/servertest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// envReplica makes the test program a replica. It is a replicaSpec as JSON.
const envReplica = "WEBTRIGGER_CHAOS_REPLICA"

type replicaSpec struct {
	Name     string
	DSN      string
	Pooled   bool // behind PgBouncer in transaction mode
	Attempts int
	Lease    time.Duration
	Workers  int
	Running  int // Limits.RunningPerAssistant
	Ledger   string
	Roots    string // PEM file of the receivers
}

func openDB(dsn string) *bun.DB {
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn)))
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	return bun.NewDB(db, pgdialect.New())
}

// jumping is a clock that jumps by an hour at each SIGUSR1, forward and back in turn.
type jumping struct{ ahead atomic.Bool }

func (j *jumping) Now() time.Time {
	if j.ahead.Load() {
		return time.Now().Add(time.Hour)
	}
	return time.Now()
}

func (j *jumping) watch() {
	jump := make(chan os.Signal, 1)
	signal.Notify(jump, syscall.SIGUSR1)
	for range jump {
		j.ahead.Store(!j.ahead.Load())
	}
}

// runReplica serves and works until SIGTERM. It prints its URL.
func runReplica(config string) error {
	var spec replicaSpec
	if err := json.Unmarshal([]byte(config), &spec); err != nil {
		return err
	}
	book, err := openLedger(spec.Ledger)
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(spec.Roots)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})).With("replica", spec.Name)
	clock := new(jumping)
	go clock.watch()
	go func() { // the test that started it has ended, perhaps without its cleanup
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	store, err := bunstore.New(openDB(spec.DSN), &bunstore.Options{Logger: logger, Clock: clock, NoNotify: spec.Pooled, NoPreparedStatements: spec.Pooled})
	if err != nil {
		return err
	}
	runner := &recorder{spec: spec, ledger: book}
	svc, err := webtrigger.New(store, runner, &webtrigger.Options{
		BaseURL: "https://app.example.com", Lease: spec.Lease, Workers: spec.Workers, MaxAttempts: spec.Attempts, Logger: logger,
		Limits:   webtrigger.Limits{RunningPerAssistant: spec.Running},
		Callback: webtrigger.CallbackOptions{Workers: senders, Allow: loopback, RootCAs: roots},
	})
	if err != nil {
		return err
	}
	return servertest.Serve(svc)
}

// recorder is the Runner. Its message is that of a [work]. Its events name its call, and
// so does its result.
type recorder struct {
	spec   replicaSpec
	ledger *ledger
	calls  atomic.Int64
}

const stepTime = 200 * time.Millisecond

// senders is how many callbacks a replica sends at a time.
const senders = 8

func (r *recorder) Run(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	name, text, _ := strings.Cut(task.Input.Message, " ")
	text, quiet := strings.CutSuffix(text, " quiet")
	takes, err := time.ParseDuration(text)
	if err != nil {
		return nil, err
	}
	call := fmt.Sprintf("%s-%d-%d", r.spec.Name, os.Getpid(), r.calls.Add(1))
	if err := r.ledger.add(entry{Kind: called, RunKey: task.Run.Key, RunID: task.Run.ID, Trigger: name, Call: call, Replica: r.spec.Name}); err != nil {
		return nil, err
	}
	step := stepTime
	if quiet {
		step = takes
	}
	end := time.Now().Add(takes)
	for left := takes; ; left = time.Until(end) {
		if err := emit("x_step", map[string]string{"call": call}); err != nil {
			return nil, err
		}
		if left <= 0 {
			break
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(min(left, step)):
		}
		if quiet {
			break
		}
	}
	if err := r.ledger.add(entry{Kind: effect, RunKey: task.Run.Key, Call: call}); err != nil {
		return nil, err
	}
	return &webtrigger.Result{Text: call}, nil
}
