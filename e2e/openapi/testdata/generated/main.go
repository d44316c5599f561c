// Command main is linked with a client that was generated from the OpenAPI
// document, in the same package, and drives a service with it: all that a caller
// does. It prints what it was told. BASE_URL is the service, KEY an API key of
// assistant 1.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	key := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+os.Getenv("KEY"))
		return nil
	}
	c, err := NewClientWithResponses(os.Getenv("BASE_URL"), WithRequestEditorFn(key))
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	trigger(ctx, c)
	follow(ctx, c)
	cancel(ctx, c)
	reject(ctx, c)
}

// trigger starts a run twice with one key, and waits for its end.
func trigger(ctx context.Context, c *ClientWithResponses) {
	once, wait := "generated-1", "wait=30"
	input := map[string]any{"build": 17}
	body := TriggerRequest{Message: "report", Context: &input, Metadata: []int{1}}
	for range 2 {
		answer := must(c.TriggerWithResponse(ctx, "1", &TriggerParams{IdempotencyKey: &once}, body))
		fmt.Println("accepted", answer.JSON202.TriggerId, answer.JSON202.RunId, answer.JSON202.Status == AcceptedStatusAccepted,
			strings.HasSuffix(answer.JSON202.StatusUrl, "/api/v1/web-triggers/1/status"), answer.HTTPResponse.Header.Get("Idempotent-Replayed"))
	}
	status := must(c.GetStatusWithResponse(ctx, 1, &GetStatusParams{Prefer: &wait})).JSON200
	fmt.Println("status", status.Status, status.RunStatus, *status.Result, status.Usage.OutputTokens, status.ErrorMessage == nil, status.CompletedAt.After(status.CreatedAt))
	tag := must(c.GetStatusWithResponse(ctx, 1, nil)).HTTPResponse.Header.Get("ETag")
	fmt.Println("unchanged", must(c.GetStatusWithResponse(ctx, 1, &GetStatusParams{IfNoneMatch: &tag})).StatusCode())
}

// follow reads the events of the run.
func follow(ctx context.Context, c *ClientWithResponses) {
	answer := must(c.StreamTriggerEvents(ctx, 1, nil))
	defer answer.Body.Close()
	events := 0
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: ") {
			events++
		}
	}
	fmt.Println("events", events)
}

// cancel cancels a run that does not end by itself, and one that has ended.
func cancel(ctx context.Context, c *ClientWithResponses) {
	id := must(c.TriggerWithResponse(ctx, "1", nil, TriggerRequest{Message: "hang"})).JSON202.TriggerId
	fmt.Println("cancel", must(c.CancelWithResponse(ctx, id, nil)).JSON202.Status)
	wait := "wait=30"
	fmt.Println("then", must(c.GetStatusWithResponse(ctx, id, &GetStatusParams{Prefer: &wait})).JSON200.RunStatus)
	fmt.Println("again", must(c.CancelWithResponse(ctx, id, nil)).JSON200.RunStatus)
}

// reject makes requests that the service rejects.
func reject(ctx context.Context, c *ClientWithResponses) {
	problem := must(c.TriggerWithResponse(ctx, "1", nil, TriggerRequest{Message: " "})).ApplicationproblemJSON422
	fmt.Println("rejected", problem.Code, (*problem.Errors)[0].Pointer)
	fmt.Println("rejected", must(c.TriggerWithResponse(ctx, "2", nil, TriggerRequest{Message: "go"})).ApplicationproblemJSON403.Code)
	fmt.Println("rejected", must(c.GetStatusWithResponse(ctx, 99, nil)).ApplicationproblemJSON404.Code)
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
