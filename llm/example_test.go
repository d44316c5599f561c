package llm_test

import (
	"context"
	"fmt"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/scripted"
)

// An agent with one tool, on the model that needs no network.
func Example() {
	type order struct {
		ID int `json:"id" jsonschema:"the order's number"`
	}
	status, err := llm.NewTool("order_status", "Returns where an order is.", func(_ context.Context, o order) (string, error) {
		return fmt.Sprintf("order %d is on its way", o.ID), nil
	})
	if err != nil {
		panic(err)
	}
	agent, err := llm.NewAgent(scripted.New(), &llm.AgentOptions{Tools: []llm.Tool{status}})
	if err != nil {
		panic(err)
	}

	// A service calls the agent for every trigger: webtrigger.New(store, agent, nil).
	message := `/tool order_status {"id": 7}`
	task := &webtrigger.Task{Input: webtrigger.RunInput{Message: message}, Prompt: message}
	result, err := agent.Run(context.Background(), task, func(typ webtrigger.EventType, _ any) error {
		fmt.Println(typ)
		return nil
	})
	fmt.Println(result.Text, err)
	// Output:
	// model_completed
	// tool_started
	// tool_completed
	// message_delta
	// model_completed
	// message_completed
	// The tool said: order 7 is on its way <nil>
}
