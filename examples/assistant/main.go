// Assistant is an agent with two tools, from the tools to an answer. The model is
// the scripted one, which needs no network: it calls the tools that the message names.
//
//	go run ./examples/assistant
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/scripted"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

type order struct {
	ID int `json:"id" jsonschema:"the order's number"`
}

func status(_ context.Context, o order) (string, error) {
	return fmt.Sprintf("order %d is on its way", o.ID), nil
}

func cancel(ctx context.Context, o order) (map[string]any, error) {
	call, _ := llm.CallFrom(ctx) // the run of the call, and an id that stays the same in every attempt
	return map[string]any{"cancelled": o.ID, "receipt": call.ID, "for": call.Task.Run.AssistantID}, nil
}

// newAssistant returns an agent with two tools.
func newAssistant(model llm.LLM) (webtrigger.Runner, error) {
	one, err := llm.NewTool("order_status", "Returns where an order is.", status)
	if err != nil {
		return nil, err
	}
	two, err := llm.NewTool("cancel_order", "Cancels an order that is not delivered yet.", cancel)
	if err != nil {
		return nil, err
	}
	return llm.NewAgent(model, &llm.AgentOptions{Tools: []llm.Tool{one, two}})
}

func main() {
	if err := run(context.Background(), os.Stdout, "/tool order_status {\"id\": 7}\n/tool cancel_order {\"id\": 7}"); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, message string) error {
	assistant, err := newAssistant(scripted.New()) // or openai.New(key, nil), anthropic.New(key, nil)
	if err != nil {
		return err
	}
	svc, err := webtrigger.New(memstore.New(nil), assistant, &webtrigger.Options{BaseURL: "https://app.example.com"})
	if err != nil {
		return err
	}
	if err := svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "1", Enabled: true}); err != nil {
		return err
	}
	triggered, err := svc.Trigger(ctx, "1", webtrigger.TriggerRequest{Message: message})
	if err != nil {
		return err
	}
	if err := svc.Execute(ctx, triggered.ID); err != nil { // a host calls svc.Work once instead
		return err
	}
	ended, err := svc.RunByID(ctx, triggered.ID)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s%s\n", ended.Status, ended.Result, ended.ErrorMessage)
	return nil
}
