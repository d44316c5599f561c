package webtrigger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// A host mounts the channel beside its own routes, opens it for an assistant,
// and works.
func Example() {
	runner := webtrigger.RunnerFunc(func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		return &webtrigger.Result{Text: strings.ToUpper(task.Prompt)}, nil
	})
	svc, err := webtrigger.New(memstore.New(nil), runner, nil)
	if err != nil {
		panic(err)
	}
	authorize := func(*http.Request, webtrigger.Access) error { return webtrigger.ErrUnauthenticated } // your session check
	mux := http.NewServeMux()
	mux.Handle("/api/v1/assistants/{assistant_id}/web-trigger", svc)
	mux.Handle("/api/v1/web-triggers/", svc)
	mux.Handle("/conversations/{conversation_id}/agent-events", svc.EventsHandler(authorize))
	server := httptest.NewServer(mux)
	defer server.Close()

	ctx, stop := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(ctx) }()
	if err := svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "1", Enabled: true}); err != nil {
		panic(err)
	}
	_, secret, err := svc.CreateKey(ctx, "1", webtrigger.KeySpec{Name: "Zapier"})
	if err != nil {
		panic(err)
	}

	// The outside service, with its key.
	call := func(method, url, body string) (answer map[string]any) {
		r, _ := http.NewRequest(method, url, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			panic(err)
		}
		defer res.Body.Close()
		raw, _ := io.ReadAll(res.Body)
		_ = json.Unmarshal(raw, &answer)
		return answer
	}
	accepted := call(http.MethodPost, server.URL+"/api/v1/assistants/1/web-trigger", `{"message": "hello"}`)
	fmt.Println(accepted["status"])
	for {
		status := call(http.MethodGet, accepted["status_url"].(string), "")
		if status["status"] != "processing" {
			fmt.Println(status["status"], status["result"])
			break
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	fmt.Println(<-worked)
	// Output:
	// accepted
	// completed HELLO
	// <nil>
}

// A host that has authenticated its caller itself triggers from Go, and may
// drive the run from its own job engine.
func ExampleService_Trigger() {
	runner := webtrigger.RunnerFunc(func(_ context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
		return &webtrigger.Result{Text: "done"}, emit("x_progress", map[string]int{"percent": 50})
	})
	store := memstore.New(nil)
	svc, err := webtrigger.New(store, runner, &webtrigger.Options{BaseURL: "https://app.example.com"})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "support", Enabled: true}); err != nil {
		panic(err)
	}
	run, err := svc.Trigger(ctx, "support", webtrigger.TriggerRequest{
		Message: "Summarise the ticket.",
		Context: json.RawMessage(`{"ticket": 4711}`),
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(run.Status, run.StatusURL())
	if err := svc.Execute(ctx, run.ID); err != nil {
		panic(err)
	}
	run, _ = svc.RunByID(ctx, run.ID)
	fmt.Println(run.Status, run.Result)
	// Output:
	// queued https://app.example.com/api/v1/web-triggers/1/status
	// completed done
}

// The event stream stands behind the host's session: the authorizer says who
// may watch what.
func ExampleService_EventsHandler() {
	svc, err := webtrigger.New(memstore.New(nil), nil, &webtrigger.Options{NoWorkers: true})
	if err != nil {
		panic(err)
	}
	authorize := func(r *http.Request, access webtrigger.Access) error {
		cookie, err := r.Cookie("session")
		if err != nil {
			return webtrigger.ErrUnauthenticated // 401
		}
		if cookie.Value != "owner of "+access.AssistantID {
			return webtrigger.ErrNotFound // the 404 of an absent conversation
		}
		return nil
	}
	w := httptest.NewRecorder()
	svc.EventsHandler(authorize).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/conversations/1/agent-events", nil))
	fmt.Println(w.Code)
	// Output: 401
}
