package serve

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/a2aproject/a2a-go/a2a"
	"github.com/a2aproject/a2a-go/a2asrv"
	"github.com/a2aproject/a2a-go/a2asrv/eventqueue"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

// serveA2A is the Go SDK of the A2A protocol with its in-memory store and an
// agent that does nothing: the nearest standard for starting an agent over HTTP.
func serveA2A(context.Context, Config) (*child.Server, error) {
	mux := http.NewServeMux()
	mux.Handle("POST /a2a", a2asrv.NewJSONRPCHandler(a2asrv.NewHandler(idleAgent{}, a2asrv.WithLogger(slog.New(slog.DiscardHandler)))))
	return &child.Server{Measured: mux}, nil
}

type idleAgent struct{}

func (idleAgent) Execute(ctx context.Context, task *a2asrv.RequestContext, out eventqueue.Queue) error {
	if err := out.Write(ctx, a2a.NewStatusUpdateEvent(task, a2a.TaskStateSubmitted, nil)); err != nil {
		return err
	}
	end := a2a.NewStatusUpdateEvent(task, a2a.TaskStateCompleted, nil)
	end.Final = true
	return out.Write(ctx, end)
}

func (idleAgent) Cancel(context.Context, *a2asrv.RequestContext, eventqueue.Queue) error { return nil }
