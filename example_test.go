package webtrigger_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
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

// The event stream uses the host's session. The authorizer decides which conversations
// a user may read.
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

// A Service needs a store and a Runner. Every option has a default.
func ExampleNew() {
	runner := webtrigger.RunnerFunc(func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		return &webtrigger.Result{Text: "You wrote: " + task.Prompt}, nil
	})
	_, err := webtrigger.New(memstore.New(nil), runner, nil)
	fmt.Println(err)
	// Output: <nil>
}

// The options of a typical production host.
func ExampleOptions() {
	_, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(capitals), &webtrigger.Options{
		BaseURL:    "https://app.example.com",
		Logger:     slog.New(slog.NewJSONHandler(os.Stderr, nil)),
		Workers:    8,
		RunTimeout: 5 * time.Minute,
		Limits:     webtrigger.Limits{TriggersPerKey: 60, Window: time.Minute, QueuedPerAssistant: 100},
		Retention:  webtrigger.Retention{Events: 7 * 24 * time.Hour, Completed: 90 * 24 * time.Hour},
	})
	fmt.Println(err)
	// Output: <nil>
}

// Hooks count the runs by their final status.
func ExampleHooks() {
	ended := map[webtrigger.RunStatus]int{}
	svc := exampleService(&webtrigger.Options{
		BaseURL: "https://app.example.com",
		Hooks: webtrigger.Hooks{
			Ended: func(_ context.Context, info webtrigger.EndedInfo) { ended[info.Run.Status]++ },
		},
	})
	ctx := context.Background()
	run, err := svc.Trigger(ctx, "support", webtrigger.TriggerRequest{Message: "hello"})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Execute(ctx, run.ID); err != nil {
		log.Fatal(err)
	}
	fmt.Println(ended)
	// Output: map[completed:1]
}

// Serve is a whole host. It listens, executes runs, and shuts down when the context
// ends: on an interrupt, with the context of signal.NotifyContext.
func ExampleService_Serve() {
	svc := exampleService(nil)
	ctx, stop := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer stop()
	server := &http.Server{Addr: "127.0.0.1:0", Handler: svc.Handler(exampleSession), ReadHeaderTimeout: 10 * time.Second}
	fmt.Println(svc.Serve(ctx, server))
	// Output: <nil>
}

// Handler has every route. A host can mount it beside its own, at any path.
func ExampleService_Handler() {
	svc := exampleService(nil)
	mux := http.NewServeMux()
	mux.Handle("/hooks/", svc.Handler(exampleSession))

	for _, path := range []string{"/hooks/api/v1/web-triggers/1/status", "/hooks/conversations/1/agent-events"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Println(w.Code, path)
	}
	// Output:
	// 401 /hooks/api/v1/web-triggers/1/status
	// 401 /hooks/conversations/1/agent-events
}

// Work executes queued runs until its context ends, for hosts with an HTTP server of
// their own. Several processes may work on one store.
func ExampleService_Work() {
	svc := exampleService(nil)
	ctx, stop := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(ctx) }()

	run, err := svc.Trigger(ctx, "support", webtrigger.TriggerRequest{Message: "hello"})
	if err != nil {
		log.Fatal(err)
	}
	until(func() bool {
		run, err = svc.RunByID(ctx, run.ID)
		return err != nil || run.Status.Terminal()
	})
	fmt.Println(run.Status, run.Result, err)
	stop()
	fmt.Println(<-worked)
	// Output:
	// completed HELLO <nil>
	// <nil>
}

// The event stream of a running assistant: a Runner emits events of its own.
func ExampleRunnerFunc() {
	runner := webtrigger.RunnerFunc(func(ctx context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
		for percent := 50; percent <= 100; percent += 50 {
			if err := emit("x_progress", map[string]int{"percent": percent}); err != nil {
				return nil, err // the run must stop
			}
		}
		return nil, errors.New("the printer is on fire")
	})
	svc, err := webtrigger.New(memstore.New(nil), runner, &webtrigger.Options{BaseURL: "https://app.example.com"})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "printer", Enabled: true}); err != nil {
		log.Fatal(err)
	}
	run, err := svc.Trigger(ctx, "printer", webtrigger.TriggerRequest{Message: "Print the report."})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Execute(ctx, run.ID); err != nil {
		log.Fatal(err)
	}
	run, err = svc.RunByID(ctx, run.ID)
	fmt.Println(run.Status, run.ErrorMessage, err)
	// Output: failed the printer is on fire <nil>
}

// With Execute, the job engine of a host executes a run instead of Work.
func ExampleService_Execute() {
	svc := exampleService(nil)
	ctx := context.Background()
	run, err := svc.Trigger(ctx, "support", webtrigger.TriggerRequest{Message: "hello"})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Execute(ctx, run.ID); err != nil {
		log.Fatal(err)
	}
	run, err = svc.RunByID(ctx, run.ID)
	fmt.Println(run.Status, run.Result, err)
	// Output: completed HELLO <nil>
}

// A queued run that is cancelled ends at once.
func ExampleService_CancelRun() {
	svc := exampleService(nil)
	ctx := context.Background()
	run, err := svc.Trigger(ctx, "support", webtrigger.TriggerRequest{Message: "hello"})
	if err != nil {
		log.Fatal(err)
	}
	run, err = svc.CancelRun(ctx, run.ID, "the ticket is closed")
	fmt.Println(run.Status, err)
	// Output: cancelled <nil>
}

// Runs lists the runs of an assistant, newest first.
func ExampleService_Runs() {
	svc := exampleService(nil)
	ctx := context.Background()
	for _, message := range []string{"first", "second", "third"} {
		if _, err := svc.Trigger(ctx, "support", webtrigger.TriggerRequest{Message: message}); err != nil {
			log.Fatal(err)
		}
	}
	query := webtrigger.RunQuery{AssistantID: "support", Statuses: []webtrigger.RunStatus{webtrigger.RunQueued}, Page: webtrigger.Page{Limit: 2}}
	for {
		runs, err := svc.Runs(ctx, query)
		if err != nil {
			log.Fatal(err)
		}
		for _, run := range runs {
			fmt.Println(run.ID, run.Status)
			query.Page.Before = run.ID // the next page
		}
		if len(runs) < query.Page.Limit {
			return
		}
	}
	// Output:
	// 3 queued
	// 2 queued
	// 1 queued
}

// QueueState is for the health page of a host.
func ExampleService_QueueState() {
	svc := exampleService(nil)
	ctx := context.Background()
	if _, err := svc.Trigger(ctx, "support", webtrigger.TriggerRequest{Message: "hello"}); err != nil {
		log.Fatal(err)
	}
	state, err := svc.QueueState(ctx)
	fmt.Println(state.Queued, state.Running, err)
	// Output: 1 0 <nil>
}

// A channel is disabled until a host enables it.
func ExampleService_SetChannel() {
	svc := exampleService(nil)
	ctx := context.Background()
	_, err := svc.Trigger(ctx, "sales", webtrigger.TriggerRequest{Message: "hello"})
	fmt.Println(errors.Is(err, webtrigger.ErrChannelDisabled))

	err = svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "sales", Enabled: true, AllowCallbackURLs: true})
	if err != nil {
		log.Fatal(err)
	}
	run, err := svc.Trigger(ctx, "sales", webtrigger.TriggerRequest{Message: "hello"})
	fmt.Println(run.Status, err)
	// Output:
	// true
	// queued <nil>
}

// A task definition has instructions and the form of the result. Callers name it by
// its id.
func ExampleService_CreateTaskDefinition() {
	svc := exampleService(nil)
	ctx := context.Background()
	definition, err := svc.CreateTaskDefinition(ctx, webtrigger.TaskDefinition{
		AssistantID:  "support",
		Name:         "Classify a ticket",
		Instructions: "Say how urgent the ticket is, from 1 to 5.",
		OutputType:   webtrigger.OutputText,
		Active:       true,
	})
	if err != nil {
		log.Fatal(err)
	}
	run, err := svc.Trigger(ctx, "support", webtrigger.TriggerRequest{
		Message:          "Nothing works!",
		Context:          json.RawMessage(`{"customer": "gold"}`),
		TaskDefinitionID: definition.ID,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(run.Status, run.TaskDefinition.Name)
	// Output: queued Classify a ticket
}

// An inactive task definition cannot be triggered.
func ExampleService_UpdateTaskDefinition() {
	svc := exampleService(nil)
	ctx := context.Background()
	definition, err := svc.CreateTaskDefinition(ctx, webtrigger.TaskDefinition{
		AssistantID: "support", Name: "Report", Instructions: "Write a report.", OutputType: webtrigger.OutputMarkdown, Active: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	definition.Active = false
	if _, err := svc.UpdateTaskDefinition(ctx, definition); err != nil {
		log.Fatal(err)
	}
	_, err = svc.Trigger(ctx, "support", webtrigger.TriggerRequest{Message: "Now.", TaskDefinitionID: definition.ID})
	fmt.Println(err != nil)
	// Output: true
}

// CreateKey returns the plaintext once. The store has only a hash of it.
func ExampleService_CreateKey() {
	svc := exampleService(nil)
	key, plaintext, err := svc.CreateKey(context.Background(), "support", webtrigger.KeySpec{
		Name:      "Zapier",
		ExpiresAt: time.Now().AddDate(1, 0, 0),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Name, len(plaintext))
	// Output: Zapier 64
}

// ImportKey adds a key that callers already use, when a host moves from a system of
// its own.
func ExampleService_ImportKey() {
	svc := exampleService(nil)
	plaintext := "1f0e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
	key, err := svc.ImportKey(context.Background(), "support", webtrigger.KeySpec{Name: "Old system"}, plaintext)
	fmt.Println(key.Name, err)
	// Output: Old system <nil>
}

// RotateKey creates a successor. The old key works until the grace period ends, so
// that callers can change over.
func ExampleService_RotateKey() {
	svc := exampleService(nil)
	ctx := context.Background()
	old, _, err := svc.CreateKey(ctx, "support", webtrigger.KeySpec{Name: "Zapier"})
	if err != nil {
		log.Fatal(err)
	}
	successor, plaintext, err := svc.RotateKey(ctx, old.ID, 24*time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	old, err = svc.Key(ctx, old.ID)
	fmt.Println(successor.Name, len(plaintext), time.Until(old.ExpiresAt).Round(time.Hour), err)
	// Output: Zapier 64 24h0m0s <nil>
}

// Callbacks of an assistant are signed with its own secrets. While receivers change
// over there are two.
func ExampleService_SetSigningSecrets() {
	svc := exampleService(nil)
	ctx := context.Background()
	current, next := webtrigger.NewSigningSecret(), webtrigger.NewSigningSecret()
	if err := svc.SetSigningSecrets(ctx, "support", current, next); err != nil {
		log.Fatal(err)
	}
	own, err := svc.SigningSecrets(ctx, "support")
	fmt.Println(len(own.Secrets), own.Secrets[0], err) // own.Secrets[0].Reveal() is what the receiver needs
	// Output: 2 whsec_(hidden) <nil>
}

// A receiver was down when the run ended. An operator requests a redelivery.
func ExampleService_Redeliver() {
	var up atomic.Bool
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer receiver.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(receiver.Certificate())
	svc := exampleService(&webtrigger.Options{
		BaseURL: "https://app.example.com",
		// A receiver on the public internet needs none of this.
		Callback: webtrigger.CallbackOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: trusted},
	})
	ctx, stop := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(ctx) }()

	run, err := svc.Trigger(ctx, "support", webtrigger.TriggerRequest{Message: "hello", CallbackURL: receiver.URL})
	if err != nil {
		log.Fatal(err)
	}
	var deliveries []webtrigger.Delivery
	until(func() bool {
		deliveries, err = svc.Deliveries(ctx, run.ID)
		return err != nil || len(deliveries) == 1 && deliveries[0].State == webtrigger.DeliveryFailed
	})
	fmt.Println(deliveries[0].State, err)

	up.Store(true)
	delivery, err := svc.Redeliver(ctx, deliveries[0].ID)
	if err != nil {
		log.Fatal(err)
	}
	until(func() bool {
		delivery, err = svc.Delivery(ctx, delivery.ID)
		return err != nil || delivery.State == webtrigger.DeliveryDelivered
	})
	fmt.Println(delivery.State, err)
	stop()
	fmt.Println(<-worked)
	// Output:
	// failed <nil>
	// delivered <nil>
	// <nil>
}

// exampleService returns a service whose Runner answers in capitals. The channel of
// the assistant "support" is enabled.
func exampleService(opts *webtrigger.Options) *webtrigger.Service {
	if opts == nil {
		opts = &webtrigger.Options{BaseURL: "https://app.example.com"}
	}
	svc, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(capitals), opts)
	if err != nil {
		log.Fatal(err)
	}
	err = svc.SetChannel(context.Background(), webtrigger.Channel{AssistantID: "support", Enabled: true, AllowCallbackURLs: true})
	if err != nil {
		log.Fatal(err)
	}
	return svc
}

func capitals(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	return &webtrigger.Result{Text: strings.ToUpper(task.Input.Message)}, nil
}

// exampleSession stands for the session check of a host: it denies every request.
func exampleSession(*http.Request, webtrigger.Access) error { return webtrigger.ErrUnauthenticated }

// until waits until a condition holds.
func until(condition func() bool) {
	for range 10_000 {
		if condition() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	log.Fatal(errors.New("the condition did not become true"))
}

// Each effect is a step: another attempt of the run gets the record instead of a second
// effect. A start mark keeps the charge from being repeated even if the process ends
// before the record is stored.
func ExampleStep() {
	refund := func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		order, err := webtrigger.Step(ctx, task, "find order", func(context.Context) (string, error) {
			return "order 17", nil // a call of another service
		})
		if err != nil {
			return nil, err
		}
		receipt, err := webtrigger.StepWith(ctx, task, "refund", func(context.Context) (string, error) {
			return "refunded " + order, nil // an effect that must not happen twice
		}, &webtrigger.StepOptions{Input: order, AtMostOnce: true})
		if errors.Is(err, webtrigger.ErrOutcomeUnknown) {
			return &webtrigger.Result{Text: "Please check the refund of " + order + "."}, nil
		}
		return &webtrigger.Result{Text: receipt}, err
	}
	result, err := refund(context.Background(), &webtrigger.Task{}, nil) // a Service calls it with a Task that records
	fmt.Println(result.Text, err)
	// Output: refunded order 17 <nil>
}
