// Approval shows an assistant that drafts a refund and waits for a person. The refund is
// paid once, and only as it was approved. A person approves or denies it in the console,
// or a program does with an API key that has the scope input.
//
//	go run ./examples/approval
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

const addr = "127.0.0.1:8080"

// refund is the draft, and the arguments of the call that a person approves.
type refund struct {
	Order string `json:"order"`
	Cents int    `json:"cents"`
}

// bank pays refunds.
type bank interface {
	pay(ctx context.Context, r refund) (receipt string, err error)
}

// assistant drafts refunds and pays those that are approved.
type assistant struct {
	bank bank
}

// Run implements [webtrigger.Runner]. After the answer, it is called again from its
// beginning: the step "draft" then returns what the person has seen.
func (a assistant) Run(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	draft, err := webtrigger.Step(ctx, task, "draft", func(context.Context) (refund, error) {
		return refund{Order: strings.TrimSpace(task.Prompt), Cents: 1250}, nil // your model drafts it
	})
	if err != nil {
		return nil, err
	}
	arguments, err := json.Marshal(draft)
	if err != nil {
		return nil, err
	}
	answer, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{
		Question: "Refund the order " + draft.Order + "?", Tool: "refund", Arguments: arguments, ExpiresIn: 48 * time.Hour,
	})
	if err != nil {
		return nil, err // the run waits, without a worker
	}
	if answer.Decision == webtrigger.DecisionDeny {
		return &webtrigger.Result{Text: "Not refunded. " + answer.Reason}, nil
	}
	receipt, err := webtrigger.StepWith(ctx, task, "refund", func(ctx context.Context) (string, error) {
		return a.bank.pay(ctx, draft)
	}, &webtrigger.StepOptions{Input: draft, AtMostOnce: true})
	if err != nil {
		return nil, err
	}
	return &webtrigger.Result{Text: fmt.Sprintf("Refunded %d cents, receipt %s.", draft.Cents, receipt)}, nil
}

// newServer returns the API with the console at /admin/.
func newServer(svc *webtrigger.Service, authorize webtrigger.Authorizer) (http.Handler, error) {
	console, err := admin.NewConsole(svc, authorize, nil)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", svc.Handler(authorize))
	mux.Handle("/admin/", http.StripPrefix("/admin", console))
	return mux, nil
}

// authorize stands for your session check. It allows requests of this machine.
func authorize(r *http.Request, _ webtrigger.Access) error {
	if !strings.HasPrefix(r.RemoteAddr, "127.0.0.1:") {
		return webtrigger.ErrUnauthenticated
	}
	webtrigger.SetActor(r, "operator")
	return nil
}

// printer prints refunds instead of paying them.
type printer struct{}

func (printer) pay(_ context.Context, r refund) (string, error) {
	fmt.Printf("paid %d cents for the order %s\n", r.Cents, r.Order)
	return "R-1", nil
}

func main() {
	ctx := context.Background()
	svc, err := webtrigger.New(memstore.New(nil), assistant{printer{}}, &webtrigger.Options{BaseURL: "http://" + addr})
	check(err)
	check(svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "1", Enabled: true}))
	_, key, err := svc.CreateKey(ctx, "1", webtrigger.KeySpec{Name: "Approval", Scopes: webtrigger.AllScopes()})
	check(err)
	handler, err := newServer(svc, authorize)
	check(err)
	fmt.Printf(`1. Ask for a refund:
curl -sS -H 'Authorization: Bearer %[1]s' -H 'Content-Type: application/json' -H 'Prefer: wait=5' \
  -d '{"message": "A-17"}' http://%[2]s/api/v1/assistants/1/web-trigger
2. Approve it in the console, http://%[2]s/admin/, or with the id of the input_request:
curl -sS -H 'Authorization: Bearer %[1]s' -H 'Content-Type: application/json' \
  -d '{"request_id": 1, "decision": "approve"}' http://%[2]s/api/v1/web-triggers/1/input
3. Read the result:
curl -sS -H 'Authorization: Bearer %[1]s' http://%[2]s/api/v1/web-triggers/1/status
`, key, addr)
	check(svc.Serve(ctx, &http.Server{Addr: addr, Handler: handler, ReadHeaderTimeout: 10 * time.Second}))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
