//go:build unix

package crashtest_test

import (
	"context"
	"crypto/x509"
	"database/sql"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/driver/pgdriver"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/servertest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// The test program is its own replica where these are set.
const (
	envDatabase = "WEBTRIGGER_CRASH_DATABASE" // a postgres URL, or an SQLite file
	envAttempts = "WEBTRIGGER_CRASH_ATTEMPTS" // Options.MaxAttempts
	envLease    = "WEBTRIGGER_CRASH_LEASE"    // Options.Lease
	envPoint    = "WEBTRIGGER_CRASH_POINT"    // where the replica kills itself; "": nowhere
	envRoots    = "WEBTRIGGER_CRASH_ROOTS"    // PEM file of the receiver
)

// lease is the lease of a replica, unless a test sets another one.
const lease = time.Second

// mortal is a store whose process ends at a named point, without any cleanup.
type mortal struct {
	webtrigger.Store
	point string
}

func (m mortal) at(point string) {
	if m.point == point {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it arrives
	}
}

func (m mortal) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	m.at("before create")
	accepted, err := m.Store.CreateTrigger(ctx, t)
	m.at("after create")
	return accepted, err
}

func (m mortal) ClaimRuns(ctx context.Context, claim webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	claimed, err := m.Store.ClaimRuns(ctx, claim)
	if len(claimed) > 0 {
		m.at("after claim")
	}
	return claimed, err
}

func (m mortal) AppendEvents(ctx context.Context, lease webtrigger.Lease, batch webtrigger.EventBatch) error {
	if m.point == "inside append" {
		time.AfterFunc(200*time.Microsecond, func() { m.at("inside append") })
	}
	return m.Store.AppendEvents(ctx, lease, batch)
}

func (m mortal) FinishRun(ctx context.Context, lease webtrigger.Lease, finish webtrigger.Finish) (webtrigger.Run, error) {
	m.at("before finish")
	run, err := m.Store.FinishRun(ctx, lease, finish)
	m.at("after finish")
	return run, err
}

func (m mortal) AnswerInput(ctx context.Context, answer webtrigger.NewAnswer) (webtrigger.Run, error) {
	run, err := m.Store.AnswerInput(ctx, answer)
	m.at("after answer")
	return run, err
}

func (m mortal) ClaimDelivery(ctx context.Context, lease webtrigger.DeliveryLease) error {
	m.at("before begin")
	err := m.Store.ClaimDelivery(ctx, lease)
	m.at("after begin")
	return err
}

func (m mortal) FinishDelivery(ctx context.Context, lease webtrigger.DeliveryLease, end webtrigger.DeliveryOutcome) error {
	m.at("after post")
	return m.Store.FinishDelivery(ctx, lease, end)
}

// assistant emits 5 steps with short pauses, or as many as the number in the message. The
// message "ask" makes it ask a person, and return the answer.
func assistant(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	if task.Input.Message == "ask" {
		answer, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Question: "Which?"})
		return &webtrigger.Result{Text: answer.Text()}, err
	}
	steps := 5
	if n, err := strconv.Atoi(task.Input.Message); err == nil {
		steps = n
	}
	for i := range steps {
		if err := emit("x_step", map[string]int{"n": i, "process": os.Getpid()}); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return &webtrigger.Result{Text: "done"}, nil
}

// openDatabase opens what envDatabase names.
func openDatabase(name string) (*bun.DB, error) {
	if strings.HasPrefix(name, "postgres:") {
		db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(name)))
		db.SetMaxOpenConns(8)
		db.SetMaxIdleConns(8)
		return bun.NewDB(db, pgdialect.New()), nil
	}
	db, err := sql.Open("sqlite", "file:"+name)
	if err != nil {
		return nil, err
	}
	return bun.NewDB(db, sqlitedialect.New()), nil
}

// replica serves and works until SIGTERM. It prints its URL.
func replica() error {
	db, err := openDatabase(os.Getenv(envDatabase))
	if err != nil {
		return err
	}
	store, err := bunstore.New(db, nil)
	if err != nil {
		return err
	}
	if err := store.Migrate(context.Background()); err != nil {
		return err
	}
	if os.Getenv(envLedger) != "" {
		return agentReplica(store)
	}
	pem, err := os.ReadFile(os.Getenv(envRoots))
	if err != nil {
		return err
	}
	attempts, err := strconv.Atoi(os.Getenv(envAttempts))
	if err != nil {
		return err
	}
	lease, err := time.ParseDuration(os.Getenv(envLease))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	svc, err := webtrigger.New(mortal{store, os.Getenv(envPoint)}, webtrigger.RunnerFunc(assistant), &webtrigger.Options{
		Lease: lease, Workers: 4, MaxAttempts: attempts, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Callback: webtrigger.CallbackOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots},
	})
	if err != nil {
		return err
	}
	return servertest.Serve(svc)
}
