package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// The service of the examples answers a message with it in capitals.
func exampleService() (baseURL, key string, stop func()) {
	svc, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(
		func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
			if task.Input.Message == "wait for me" {
				<-ctx.Done()
			}
			return &webtrigger.Result{Text: strings.ToUpper(task.Input.Message)}, nil
		}), nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "1", Enabled: true}); err != nil {
		log.Fatal(err)
	}
	_, key, err = svc.CreateKey(ctx, "1", webtrigger.KeySpec{Name: "example"})
	if err != nil {
		log.Fatal(err)
	}
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(ctx) }()
	server := httptest.NewServer(svc)
	return server.URL, key, func() {
		svc.CloseStreams()
		server.Close()
		cancel()
		<-worked
	}
}

// Trigger an assistant and wait for what it makes. The request may be repeated,
// also by another process: it is one run.
func ExampleClient_Trigger() {
	baseURL, key, stop := exampleService()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()

	c, err := client.New(baseURL, key, nil)
	if err != nil {
		log.Fatal(err)
	}
	accepted, err := c.Trigger(ctx, "1", client.TriggerRequest{
		Message:        "write the nightly report",
		Context:        map[string]any{"build": 4711},
		IdempotencyKey: "nightly-2026-04-15",
	})
	if err != nil {
		log.Fatal(err)
	}
	status, err := c.Wait(ctx, accepted.TriggerID)
	if err != nil {
		log.Fatal(err)
	}
	if status.Status == "failed" {
		log.Fatal("the run ended as ", status.RunStatus)
	}
	fmt.Println(*status.Result)
	// Output: WRITE THE NIGHTLY REPORT
}

// Cancel a run, and see it end.
func ExampleClient_Cancel() {
	baseURL, key, stop := exampleService()
	defer stop()
	ctx := context.Background()

	c, err := client.New(baseURL, key, nil)
	if err != nil {
		log.Fatal(err)
	}
	accepted, err := c.Trigger(ctx, "1", client.TriggerRequest{Message: "wait for me"})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Cancel(ctx, accepted.TriggerID); err != nil {
		log.Fatal(err)
	}
	status, err := c.Wait(ctx, accepted.TriggerID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.Status, status.RunStatus)
	// Output: failed cancelled
}

// An error names each fault of a request with its place in the body.
func ExampleError() {
	baseURL, key, stop := exampleService()
	defer stop()

	c, err := client.New(baseURL, key, nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.Trigger(context.Background(), "1", client.TriggerRequest{Message: " "})
	var refused *client.Error
	if errors.As(err, &refused) {
		fmt.Println(refused.Status, refused.Code)
		for _, fault := range refused.Faults {
			fmt.Println(fault.Pointer, fault.Detail)
		}
	}
	// Output:
	// 422 invalid_request
	// /message must not be blank
}
