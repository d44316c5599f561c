// Server is the evaluation server: the whole library behind one command, on
// one port, with an assistant that needs no model.
//
//	go run ./examples/server
//
// It prints a curl line that is ready to paste. Flags: -h.
//
// With OPENAI_API_KEY in the environment (and OPENAI_BASE_URL, OPENAI_MODEL), or
// else ANTHROPIC_API_KEY (and ANTHROPIC_BASE_URL, ANTHROPIC_MODEL), a real model
// answers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

func main() {
	cfg, err := parseFlags(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		os.Exit(2) // parseFlags has printed the reason
	}
	if err := run(cfg); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run(cfg *config) error {
	signalled, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	listener, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	if cfg.baseURL == "" {
		cfg.baseURL = "http://" + listener.Addr().String()
	}

	model, err := chooseModel(os.Getenv, log)
	if err != nil {
		return err
	}
	tools, err := openTools(signalled, cfg, log)
	if err != nil {
		return err
	}
	defer tools.close()
	store, closeStore, err := openStore(signalled, cfg.db, log)
	if err != nil {
		return err
	}
	defer closeStore()
	svc, agent, err := newService(store, cfg, model, tools, log)
	if err != nil {
		return err
	}
	setup, cancel := context.WithTimeout(signalled, 30*time.Second)
	err = prepare(setup, svc, cfg, log)
	cancel()
	if err != nil {
		return err
	}
	handler, err := routes(svc, agent, cfg)
	if err != nil {
		return err
	}
	announce(os.Stdout, cfg, model.name)
	return serve(signalled, stop, svc, listener, handler, cfg, log)
}

func newService(store webtrigger.Store, cfg *config, model llm.LLM, tools *toolbox, log *slog.Logger) (*webtrigger.Service, *llm.Agent, error) {
	agent, err := llm.NewAgent(model, cfg.agentOptions(tools, log))
	if err != nil {
		return nil, nil, err
	}
	svc, err := webtrigger.New(store, agent, cfg.serviceOptions(log))
	return svc, agent, err
}

// serve serves until a signal arrives. Then it shuts down HTTP first, so that it
// stores no trigger while its workers drain. Then it drains the runs. A second signal
// ends the process at once.
func serve(signalled context.Context, stop func(), svc *webtrigger.Service, listener net.Listener, handler http.Handler, cfg *config, log *slog.Logger) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(svc.CloseStreams)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	working, drain := context.WithCancel(context.Background())
	defer drain()
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(working) }()

	select {
	case err := <-served:
		drain()
		return errors.Join(err, <-worked)
	case <-signalled.Done():
	}
	stop() // from here on a signal has its usual effect: it ends the process
	log.Info("shutting down", "drain", cfg.drain)
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	drain()
	return errors.Join(err, <-worked)
}
