package wiretest

import (
	"context"
	"errors"
	"runtime"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// obey is a Runner that executes the command in the message: "fail TEXT", "panic", "exit",
// "say TEXT". Anything else is echoed.
func obey(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	word, rest, _ := strings.Cut(task.Input.Message, " ")
	switch word {
	case "fail":
		return nil, errors.New(rest)
	case "panic":
		panic(rest)
	case "exit":
		runtime.Goexit()
	case "say":
		return &webtrigger.Result{Text: rest}, nil
	}
	return &webtrigger.Result{Text: "echo: " + task.Prompt}, nil
}
