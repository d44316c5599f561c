package wiretest

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// obey is a Runner that executes the command in the message: "fail TEXT", "panic", "exit",
// "say TEXT". Anything else is echoed.
func obey(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	word, rest, _ := strings.Cut(task.Input.Message, " ")
	switch word {
	case "fail":
		return nil, errors.New(rest)
	case "panic":
		panic(rest)
	case "exit":
		runtime.Goexit()
	case "ask":
		answer, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Question: rest, Choices: []string{"Ann", "Bob"}})
		return &webtrigger.Result{Text: answer.By + ": " + answer.Text()}, err
	case "schema":
		answer, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Question: "How much?", Schema: json.RawMessage(rest)})
		return &webtrigger.Result{Text: string(answer.Answer)}, err
	case "approve":
		name, arguments, _ := strings.Cut(rest, " ")
		answer, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Tool: name, Arguments: json.RawMessage(arguments)})
		return &webtrigger.Result{Text: string(answer.Decision) + ": " + answer.Reason}, err
	case "say":
		return &webtrigger.Result{Text: rest}, nil
	}
	return &webtrigger.Result{Text: "echo: " + task.Prompt}, nil
}

// compileSchema stands for a validator: a schema asks for a number of at most its maximum.
func compileSchema(schema json.RawMessage) (func(json.RawMessage) error, error) {
	var s struct{ Maximum float64 }
	if err := json.Unmarshal(schema, &s); err != nil {
		return nil, err
	}
	return func(value json.RawMessage) error {
		var n float64
		if json.Unmarshal(value, &n) != nil || n > s.Maximum {
			return errors.New("must be a number of at most the maximum")
		}
		return nil
	}, nil
}
