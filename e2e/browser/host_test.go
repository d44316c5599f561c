package browser_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/e2e/browser"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// hostVariable has this test program be a host: a process that serves streams and
// executes runs, and that a test can kill. Its value is the DSN of the database.
const hostVariable = "WEBTRIGGER_E2E_HOST"

// chromium is what the tests have in common. It takes the certificate of a host.
var chromium = browser.Shared{Options: []chromedp.ExecAllocatorOption{chromedp.IgnoreCertErrors}}

func TestMain(m *testing.M) {
	if dsn := os.Getenv(hostVariable); dsn != "" {
		if err := serve(dsn, os.Args[len(os.Args)-2:]); err != nil {
			fmt.Fprintln(os.Stderr, "host:", err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	chromium.Close()
	os.Exit(code)
}

// openStore opens a store of a process.
func openStore(dsn string) (*bunstore.Store, func(), error) {
	db := bun.NewDB(sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn))), pgdialect.New())
	store, err := bunstore.New(db, nil)
	if err != nil {
		return nil, nil, err
	}
	return store, func() {
		_ = store.Close()
		_ = db.Close()
	}, nil
}

// lastVariable has a host bring its run to an end, after lastEvents more. Under
// another the run continues until the host ends.
const (
	lastVariable = "WEBTRIGGER_E2E_LAST"
	lastEvents   = 50
)

// serve is the host: HTTP/1.1 on the first address, HTTP/2 over TLS on the
// second. It ends by SIGTERM as a host should.
func serve(dsn string, addrs []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	store, closeStore, err := openStore(dsn)
	if err != nil {
		return err
	}
	defer closeStore()
	svc, err := webtrigger.New(store, webtrigger.RunnerFunc(work), &webtrigger.Options{Lease: 3 * time.Second, MaxAttempts: 99, DrainTimeout: -1})
	if err != nil {
		return err
	}
	var asked atomic.Int64
	events := svc.EventsHandler(func(*http.Request, webtrigger.Access) error { return nil })
	mux := http.NewServeMux()
	mux.HandleFunc("/conversations/", func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		events.ServeHTTP(w, r)
	})
	mux.HandleFunc("/asked", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, asked.Load()) })
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, page)
	})
	var servers []*httptest.Server
	for i, addr := range addrs {
		server := httptest.NewUnstartedServer(mux)
		_ = server.Listener.Close()
		if server.Listener, err = net.Listen("tcp", addr); err != nil {
			return err
		}
		server.Config.WriteTimeout = 2 * time.Second
		server.Config.RegisterOnShutdown(svc.CloseStreams)
		server.EnableHTTP2 = true
		if i == 0 {
			server.Start()
		} else {
			server.StartTLS()
		}
		servers = append(servers, server)
	}
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(ctx) }()
	fmt.Println("ready")
	<-ctx.Done()
	for _, server := range servers {
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err = errors.Join(err, server.Config.Shutdown(grace))
		cancel()
	}
	return errors.Join(err, <-worked)
}

// work emits events.
func work(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; os.Getenv(lastVariable) == "" || n < lastEvents; n++ {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
		if err := emit("x_step", map[string]any{"attempt": task.Run.Attempts, "n": n, "text": "line\r\nbreak \u2028 and \x00 ü"}); err != nil {
			return nil, err
		}
	}
	return &webtrigger.Result{Text: "done"}, nil
}

// host is the process from outside.
type host struct {
	t     *testing.T
	dsn   string
	addrs []string
	cmd   *exec.Cmd
}

// newHost starts a host on two free ports, which stay its own when it starts again.
func newHost(t *testing.T, dsn string) *host {
	t.Helper()
	h := &host{t: t, dsn: dsn}
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		h.addrs = append(h.addrs, l.Addr().String())
		require.NoError(t, l.Close())
	}
	t.Cleanup(func() { h.end(syscall.SIGKILL) })
	h.start("")
	return h
}

// start returns when the host serves; last has it bring its run to an end.
func (h *host) start(last string) {
	h.t.Helper()
	program, err := os.Executable()
	require.NoError(h.t, err)
	h.cmd = exec.Command(program, h.addrs...)
	h.cmd.Env = append(os.Environ(), hostVariable+"="+h.dsn, lastVariable+"="+last)
	h.cmd.Stderr = os.Stderr
	out, err := h.cmd.StdoutPipe()
	require.NoError(h.t, err)
	require.NoError(h.t, h.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(h.t, err)
	require.Equal(h.t, "ready", strings.TrimSpace(line))
}

// end sends the signal and waits for the end; a second call does nothing.
func (h *host) end(signal syscall.Signal) {
	if h.cmd != nil {
		_ = h.cmd.Process.Signal(signal)
		err := h.cmd.Wait()
		if signal == syscall.SIGTERM {
			require.NoError(h.t, err)
		}
		h.cmd = nil
	}
}
