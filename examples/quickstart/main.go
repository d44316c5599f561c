// Quickstart mounts the Web Trigger channel in a plain mux: an assistant that
// answers in upper case, stored in memory.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

var addr = "127.0.0.1:8080"

// shout stands for your assistant: a prompt in, a result out.
func shout(_ context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	if err := emit("x_thinking", map[string]int{"characters": len(task.Prompt)}); err != nil {
		return nil, err
	}
	return &webtrigger.Result{Text: strings.ToUpper(task.Prompt)}, nil
}

// authorize stands for your session check. It allows requests of this machine.
func authorize(r *http.Request, _ webtrigger.Access) error {
	if !strings.HasPrefix(r.RemoteAddr, "127.0.0.1:") {
		return webtrigger.ErrUnauthenticated
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	svc, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(shout), &webtrigger.Options{BaseURL: "http://" + addr})
	check(err)
	check(svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "1", Enabled: true}))
	_, key, err := svc.CreateKey(ctx, "1", webtrigger.KeySpec{Name: "Quickstart"})
	check(err)

	mux := http.NewServeMux()
	mux.Handle("/api/v1/", svc)
	mux.Handle("/conversations/{conversation_id}/agent-events", svc.EventsHandler(authorize))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	server.RegisterOnShutdown(svc.CloseStreams)
	listener, err := net.Listen("tcp", addr)
	check(err)
	working, drain := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(working) }()
	go func() { // HTTP ends first, then the runs that it has accepted
		<-ctx.Done()
		stop() // a second signal ends the process at once
		_ = server.Shutdown(context.Background())
		drain()
	}()

	fmt.Printf("curl -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' \\\n  -d '{\"message\": \"hello\"}' http://%s/api/v1/assistants/1/web-trigger\n", key, addr)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	check(<-worked) // running runs have drained
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
