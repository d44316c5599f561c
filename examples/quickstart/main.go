// Quickstart mounts the Web Trigger channel in a plain mux: an assistant that
// answers in upper case, kept in memory.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

const addr = "127.0.0.1:8080"

// shout stands where your assistant is: a prompt in, a result out.
func shout(_ context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	if err := emit("x_thinking", map[string]int{"characters": len(task.Prompt)}); err != nil {
		return nil, err
	}
	return &webtrigger.Result{Text: strings.ToUpper(task.Prompt)}, nil
}

// authorize stands where your session check is. This one lets this machine in.
func authorize(r *http.Request, _ webtrigger.Access) error {
	if !strings.HasPrefix(r.RemoteAddr, "127.0.0.1:") {
		return webtrigger.ErrUnauthenticated
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	svc, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(shout), &webtrigger.Options{BaseURL: "http://" + addr})
	check(err)
	check(svc.SetChannel(ctx, webtrigger.ChannelSettings{AssistantID: "1", Enabled: true}))
	_, secret, err := svc.CreateKey(ctx, "1", "Quickstart", time.Time{})
	check(err)

	mux := http.NewServeMux()
	mux.Handle("/api/v1/assistants/{assistant_id}/web-trigger", svc)
	mux.Handle("/api/v1/web-triggers/", svc)
	mux.Handle("/conversations/{conversation_id}/agent-events", svc.EventsHandler(authorize))
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	server.RegisterOnShutdown(svc.CloseStreams)
	working, drain := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(working) }()
	go func() { // HTTP ends first, then the runs that it has accepted
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
		drain()
	}()

	fmt.Printf("curl -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' \\\n  -d '{\"message\": \"hello\"}' http://%s/api/v1/assistants/1/web-trigger\n", secret, addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	check(<-worked) // running runs have drained
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
