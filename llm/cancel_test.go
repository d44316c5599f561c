package llm_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// pipeModel reads its answer line by line from a pipe, as models of vendors read
// theirs from a connection.
type pipeModel struct{ lines []string }

func (p pipeModel) Generate(ctx context.Context, _ *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	reader, writer := io.Pipe()
	stop := context.AfterFunc(ctx, func() { reader.CloseWithError(context.Cause(ctx)) })
	defer stop()
	defer reader.Close()
	go func() { // the vendor, whose stream stops then without an end
		for _, line := range p.lines {
			_, _ = io.WriteString(writer, line+"\n")
			time.Sleep(time.Second)
		}
	}()
	text, scanner := "", bufio.NewScanner(reader)
	for scanner.Scan() {
		text += scanner.Text()
		if err := stream(llm.Chunk{Text: scanner.Text()}); err != nil {
			return nil, err
		}
	}
	return &llm.Response{Text: text, Finish: llm.FinishStop, Usage: webtrigger.Usage{OutputTokens: 7}}, scanner.Err()
}

// The run ends within 100 ms of a cancellation, wherever it waits.
func TestCancelEndsTheRunAtOnce(t *testing.T) {
	t.Parallel()
	untilEnd := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	paid := func(r llm.Response) llm.Response { r.Usage.OutputTokens = 7; return r }
	for _, tt := range []struct {
		name  string
		model func(release chan struct{}) llm.LLM
		opts  func(release chan struct{}) *llm.AgentOptions
		def   *webtrigger.TaskDefinition
		free  bool // nothing was consumed yet
	}{
		{name: "before the first piece of a model's answer", model: func(chan struct{}) llm.LLM { return pipeModel{} }},
		{name: "in the middle of a model's answer", model: func(chan struct{}) llm.LLM { return pipeModel{lines: []string{"one ", "two "}} }},
		{name: "before another attempt at a model", free: true, model: func(chan struct{}) llm.LLM {
			overloaded := modelFunc(func(context.Context, *llm.Request, func(llm.Chunk) error) (*llm.Response, error) {
				return nil, &llm.Error{Err: errors.New("overloaded"), Retryable: true, RetryAfter: 5 * time.Minute}
			})
			return llm.NewRetrier(overloaded, nil)
		}},
		{name: "during a tool", model: func(chan struct{}) llm.LLM {
			return &answers{responses: []llm.Response{paid(calls("a", `{}`))}}
		}, opts: func(chan struct{}) *llm.AgentOptions {
			return &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, untilEnd)}}
		}},
		{name: "during a tool that does not return", model: func(chan struct{}) llm.LLM {
			return &answers{responses: []llm.Response{paid(calls("a", `{}`))}}
		}, opts: func(release chan struct{}) *llm.AgentOptions {
			return &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, func(context.Context) (string, error) { <-release; return "", nil })}}
		}},
		{name: "during many tools, of which some do not return", model: func(chan struct{}) llm.LLM {
			asked := paid(together("a", 12))
			asked.ToolCalls = append(asked.ToolCalls, together("b", 12).ToolCalls...)
			return &answers{responses: []llm.Response{asked}}
		}, opts: func(release chan struct{}) *llm.AgentOptions {
			return &llm.AgentOptions{ParallelTools: 20, Tools: []llm.Tool{
				tool("a", nil, untilEnd), tool("b", nil, func(context.Context) (string, error) { <-release; return "", nil }),
			}}
		}},
		{name: "during the repair of an answer", def: &webtrigger.TaskDefinition{OutputType: webtrigger.OutputJSON}, model: func(chan struct{}) llm.LLM {
			asked := 0
			return modelFunc(func(ctx context.Context, _ *llm.Request, _ func(llm.Chunk) error) (*llm.Response, error) {
				if asked++; asked == 1 {
					wrong := paid(says("no JSON"))
					return &wrong, nil
				}
				<-ctx.Done()
				return nil, context.Cause(ctx)
			})
		}},
		{name: "while the host looks up instructions", free: true, model: func(chan struct{}) llm.LLM { return pipeModel{} }, opts: func(chan struct{}) *llm.AgentOptions {
			return &llm.AgentOptions{Instructions: func(ctx context.Context, _ string) (string, error) { return untilEnd(ctx) }}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				var opts *llm.AgentOptions
				if tt.opts != nil {
					opts = tt.opts(release)
				}
				ended := cancelAfter(t, newAgent(t, tt.model(release), opts), tt.def, 10*time.Second)
				require.LessOrEqual(t, ended.took, 100*time.Millisecond)
				require.Equal(t, webtrigger.RunCancelled, ended.run.Status, ended.run.ErrorMessage)
				require.Empty(t, ended.run.Result)
				if tt.free {
					require.Nil(t, ended.run.Usage)
				} else {
					require.EqualValues(t, 7, ended.run.Usage.OutputTokens, "what was consumed was consumed")
				}
			})
		})
	}
}

// cancelled is a run that was cancelled, and how long that took.
type cancelled struct {
	run  webtrigger.Run
	took time.Duration
}

// cancelAfter executes a run of an agent in a bubble and cancels it later.
func cancelAfter(t *testing.T, agent *llm.Agent, def *webtrigger.TaskDefinition, after time.Duration) cancelled {
	t.Helper()
	store := memstore.New(nil)
	svc, err := webtrigger.New(store, agent, &webtrigger.Options{BaseURL: "https://app.example.com", CompileSchema: llm.CompileSchema})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	request := webtrigger.TriggerRequest{Message: "hello"}
	if def != nil {
		kept := *def
		kept.AssistantID, kept.Name, kept.Instructions, kept.Active = "1", "Test", "Test.", true
		kept, err = svc.CreateTaskDefinition(t.Context(), kept)
		require.NoError(t, err)
		request.TaskDefinitionID = kept.ID
	}
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(ctx) }()
	synctest.Wait()
	run, err := svc.Trigger(t.Context(), "1", request)
	require.NoError(t, err)
	time.Sleep(after)
	began := time.Now()
	run, err = svc.CancelRun(t.Context(), run.ID, "")
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunRunning, run.Status)
	for !run.Status.Terminal() && time.Since(began) < time.Minute {
		time.Sleep(time.Millisecond)
		run, err = svc.RunByID(t.Context(), run.ID)
		require.NoError(t, err)
	}
	took := time.Since(began)
	stop()
	require.NoError(t, <-worked)
	return cancelled{run, took}
}
