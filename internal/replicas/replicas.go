// Package replicas starts services on one Postgres for tests, as several processes would
// have them, and drains or kills them.
package replicas

import (
	"context"
	"database/sql"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/faultstore"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// Number returns a size of a test: few, or the value of the environment variable.
func Number(t *testing.T, name string, few int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return few
	}
	n, err := strconv.Atoi(v)
	require.NoError(t, err)
	return n
}

// Config is what a replica does. All but DSN and Run are optional.
type Config struct {
	DSN     string
	Run     func(ctx context.Context, task *webtrigger.Task, dead <-chan struct{}) (*webtrigger.Result, error)
	Options func(*webtrigger.Options) // changes the options
	Call    func(ctx context.Context, method string, do func(ctx context.Context) error) error
}

// Replica is a process on a database that several share. Assistant 1 has its channel.
type Replica struct {
	*webtrigger.Service
	Store *bunstore.Store // reaches the database also after a kill
	DB    *bun.DB

	dead chan struct{}
	die  sync.Once
	stop context.CancelFunc
	done chan struct{} // closed when Work has returned
}

// Start starts a replica. It works until it is drained or killed, or until the test ends.
func Start(t *testing.T, c Config) *Replica {
	t.Helper()
	db := bun.NewDB(sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(c.DSN))), pgdialect.New())
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12) // otherwise most statements open a connection
	store, err := bunstore.New(db, nil)
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	r := &Replica{Store: store, DB: db, dead: make(chan struct{}), done: make(chan struct{})}
	faulty := &faultstore.Store{Store: store, Call: func(ctx context.Context, method string, do func(ctx context.Context) error) error {
		alive := func(ctx context.Context) error {
			select {
			case <-r.dead:
				return webtrigger.ErrUnavailable
			default:
				return do(ctx)
			}
		}
		if c.Call != nil {
			return c.Call(ctx, method, alive)
		}
		return alive(ctx)
	}}
	opts := webtrigger.Options{
		BaseURL: "https://app.example.com",
		Lease:   3 * time.Second, MaxAttempts: 5, Workers: 8, DrainTimeout: -1, CancelGrace: time.Second,
		Callback: webtrigger.CallbackOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
	}
	if c.Options != nil {
		c.Options(&opts)
	}
	r.Service, err = webtrigger.New(faulty, webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		return c.Run(ctx, task, r.dead)
	}), &opts)
	require.NoError(t, err)
	require.NoError(t, r.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		defer close(r.done)
		err := r.Work(ctx)
		select {
		case <-r.dead: // a killed process reports nothing
		default:
			if err != nil {
				t.Errorf("work: %v", err)
			}
		}
	}()
	t.Cleanup(func() {
		select {
		case <-r.Drain():
		case <-time.After(time.Minute):
			t.Error("Work does not return")
		}
		r.CloseStreams()
		_ = store.Close()
		_ = db.Close()
	})
	return r
}

// Drain ends Work as SIGTERM does. The channel is closed when Work has returned.
func (r *Replica) Drain() <-chan struct{} {
	r.stop()
	return r.done
}

// Kill ends a replica as SIGKILL would: its Runners stop, and nothing of it reaches the
// store any more. The channel is closed when Work has returned.
func (r *Replica) Kill() <-chan struct{} {
	r.die.Do(func() { close(r.dead) })
	return r.Drain()
}
