// Runner is a host with an assistant of its own: it brings a webtrigger.Runner and
// nothing of package llm. The assistant counts words. It shows the duties of
// a Runner: it emits its steps, streams its text, obeys its context, returns the output
// type of the task definition, and reports its usage.
//
//	go run ./examples/runner
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// counter is the assistant. The pause stands for the time of a model.
type counter struct{ pause time.Duration }

// Run counts the words of the prompt.
func (c counter) Run(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	words := strings.Fields(task.Prompt)
	result := &webtrigger.Result{Usage: &webtrigger.Usage{InputTokens: int64(len(words))}}
	if len(words) > 10_000 {
		return result, errors.New("the text is too long for me") // the run fails, with this as its error_message
	}
	if err := emit("x_counting", map[string]int{"words": len(words)}); err != nil { // a type of this Runner
		return result, err
	}
	select {
	case <-time.After(c.pause):
	case <-ctx.Done():
		return result, context.Cause(ctx) // the cause decides the run's outcome, whatever is returned
	}

	if task.Definition != nil && task.Definition.OutputType == webtrigger.OutputJSON {
		raw, err := json.Marshal(map[string]int{"words": len(words)})
		result.Text = string(raw) // the service validates it against the schema of the definition
		return result, err
	}
	pieces := []string{"There ", "are ", fmt.Sprintf("%d words.", len(words))}
	for _, piece := range pieces {
		if err := emit(webtrigger.EventMessageDelta, map[string]string{"text": piece}); err != nil {
			return result, err
		}
	}
	result.Text = strings.Join(pieces, "")
	return result, emit(webtrigger.EventMessageCompleted, map[string]string{"text": result.Text})
}

func main() {
	if err := run(context.Background(), os.Stdout, counter{pause: time.Second}, "How many words are these?"); err != nil {
		log.Fatal(err)
	}
}

// run triggers the assistant once and prints what happened.
func run(ctx context.Context, out io.Writer, assistant webtrigger.Runner, message string) error {
	store := memstore.New(nil)
	svc, err := webtrigger.New(store, assistant, &webtrigger.Options{BaseURL: "https://app.example.com"})
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
	page, err := store.Events(ctx, webtrigger.EventQuery{ConversationID: triggered.ConversationID, Limit: 100})
	if err != nil {
		return err
	}
	for _, event := range page.Events {
		fmt.Fprintf(out, "%2d %s %s\n", event.Sequence, event.Type, event.Payload)
	}
	ended, err := svc.RunByID(ctx, triggered.ID)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s%s\n", ended.Status, ended.Result, ended.ErrorMessage)
	return nil
}
