//go:build unix

package crashtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

// A replica of an agent is the test program with these variables, beside envDatabase and
// envPoint.
const (
	envLedger = "WEBTRIGGER_CRASH_LEDGER" // a file of what models and tools have done, synced to disk
	envRun    = "WEBTRIGGER_CRASH_RUN"    // the run that the replica ends
)

// The run of the agent: five answers of the model and eight tool calls.
//
//	answer 1   Text, c1 charge, c2 look
//	answer 2   c3 charge, c4 charge, c5 look, all at the same time
//	answer 3   c6 charge
//	answer 4   Text, c7 look, c8 charge
//	answer 5   the result
var script = [][]string{{"c1 charge", "c2 look"}, {"c3 charge", "c4 charge", "c5 look"}, {"c6 charge"}, {"c7 look", "c8 charge"}, {}}

// boundaries are the points at which the process of an agent can be killed.
func boundaries() []string {
	points := []string{"after claim"}
	for i, calls := range script {
		model := fmt.Sprintf("model %d", i+1)
		points = append(points, "before "+model, "during "+model, "after "+model, "before record of "+model, "after record of "+model)
		for _, call := range calls {
			id, _, _ := strings.Cut(call, " ")
			tool := "tool " + id + " 1"
			points = append(points, "before mark of "+tool, "after mark of "+tool, "before effect "+id, "during effect "+id, "after effect "+id,
				"before record of "+tool, "after record of "+tool)
		}
	}
	return append(points, "before finish", "after finish")
}

// AppendEvents ends the process before or after the commit of a step.
func (m recording) AppendEvents(ctx context.Context, lease webtrigger.Lease, batch webtrigger.EventBatch) error {
	m.steps("before", batch)
	err := m.mortal.Store.AppendEvents(ctx, lease, batch)
	m.steps("after", batch)
	return err
}

// recording is a mortal store for an agent.
type recording struct{ mortal }

func (m recording) steps(when string, batch webtrigger.EventBatch) {
	for _, s := range batch.Steps {
		what := "record"
		if s.Record == nil {
			what = "mark"
		}
		m.at(fmt.Sprintf("%s %s of %s %d", when, what, s.Name, s.Nth))
	}
}

// ledger is what models and tools have done, outside of the product.
type ledger struct {
	mortal
	file *os.File
}

// write writes one line and returns when it is on the disk.
func (l ledger) write(line string) {
	if _, err := l.file.WriteString(line + "\n"); err != nil {
		panic(err)
	}
	if err := l.file.Sync(); err != nil {
		panic(err)
	}
}

// Generate answers by the number of earlier answers.
func (l ledger) Generate(_ context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	n := 0
	for _, m := range req.Messages {
		if m.Role == webtrigger.RoleAssistant {
			n++
		}
	}
	model := fmt.Sprintf("model %d", n+1)
	l.at("before " + model)
	l.write(model)
	response := &llm.Response{Model: "fake", Usage: webtrigger.Usage{InputTokens: int64(n) + 1, OutputTokens: 10}, Native: json.RawMessage(fmt.Sprintf(`{"signed":%d}`, n))}
	for _, call := range script[n] {
		id, name, _ := strings.Cut(call, " ")
		response.ToolCalls = append(response.ToolCalls, llm.ToolCall{ID: id, Name: name, Arguments: json.RawMessage(`{"n":` + strconv.Itoa(n) + `}`)})
	}
	if n == 0 || n >= 3 {
		if err := stream(llm.Chunk{Text: "Text of "}); err != nil {
			return nil, err
		}
		time.Sleep(20 * time.Millisecond) // so that readers get it before the process is killed
		response.Text = "Text of " + model
	}
	l.at("during " + model)
	l.at("after " + model)
	return response, nil
}

// call is the effect of both tools.
func (l ledger) call(ctx context.Context, _ json.RawMessage) (string, error) {
	call, _ := llm.CallFrom(ctx)
	l.at("before effect " + call.ID)
	l.write("begin " + call.ID)
	l.at("during effect " + call.ID)
	time.Sleep(5 * time.Millisecond)
	l.write("end " + call.ID)
	l.at("after effect " + call.ID)
	return "result of " + call.ID, nil
}

// agentReplica works until the run has ended.
func agentReplica(store webtrigger.Store) error {
	file, err := os.OpenFile(os.Getenv(envLedger), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	runID, err := strconv.ParseInt(os.Getenv(envRun), 10, 64)
	if err != nil {
		return err
	}
	m := mortal{store, os.Getenv(envPoint)}
	l := ledger{m, file}
	agent, err := llm.NewAgent(l, &llm.AgentOptions{Tools: []llm.Tool{
		{Name: "charge", Call: l.call},
		{Name: "look", Call: l.call, Repeatable: true},
	}})
	if err != nil {
		return err
	}
	svc, err := webtrigger.New(recording{m}, agent, &webtrigger.Options{Lease: lease, MaxAttempts: 3,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		defer stop()
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if run, err := store.RunSummary(ctx, runID); err == nil && run.Status.Terminal() {
				return
			}
		}
	}()
	return svc.Work(ctx)
}

// done are the lines of the ledger.
func done(path string) []string {
	text, _ := os.ReadFile(path) // no file: nothing was done
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return line == "" })
}
