// River is a host whose runs are executed by River, the job queue: an accepted
// run and its River job are committed together, and River's workers execute it.
//
//	go run ./examples/river -db 'postgres://localhost/app?sslmode=disable'
//
// The database gets the tables of both. Any number of these processes may share
// it. engine.go describes how the two work together.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// shout stands for your assistant: a prompt in, a result out.
func shout(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	return &webtrigger.Result{Text: strings.ToUpper(task.Prompt)}, nil
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	dsn := flag.String("db", "", "Postgres, as a postgres:// URL")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *dsn); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr, dsn string) error {
	e, err := open(ctx, dsn, webtrigger.RunnerFunc(shout), &webtrigger.Options{BaseURL: "http://" + addr})
	if err != nil {
		return err
	}
	defer e.close()
	if err := e.svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "1", Enabled: true}); err != nil {
		return err
	}
	_, secret, err := e.svc.CreateKey(ctx, "1", webtrigger.KeySpec{Name: "River example"})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/api/v1/assistants/{assistant_id}/web-trigger", e.svc)
	mux.Handle("/api/v1/web-triggers/", e.svc)
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	server.RegisterOnShutdown(e.svc.CloseStreams)

	working, drain := context.WithCancel(context.Background())
	defer drain()
	worked := make(chan error, 1)
	go func() { worked <- e.work(working) }()
	closed := make(chan struct{})
	go func() { // HTTP ends first, then the runs that River has begun
		defer close(closed)
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
		drain()
	}()
	fmt.Printf("curl -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' \\\n  -d '{\"message\": \"hello\"}' http://%s/api/v1/assistants/1/web-trigger\n", secret, addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-closed
	return <-worked
}
