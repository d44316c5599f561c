package scripted_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/demotools"
	"github.com/webtrigger-go/webtrigger/llm/scripted"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// played is a script that was played by an agent under a service.
type played struct {
	run    webtrigger.Run
	events []webtrigger.Event
}

// play plays what a trigger asks for; with an output type, under a task
// definition of that type.
func play(t *testing.T, request webtrigger.TriggerRequest, output ...webtrigger.OutputType) played {
	t.Helper()
	agent, err := llm.NewAgent(scripted.New(), &llm.AgentOptions{Tools: demotools.Tools()})
	require.NoError(t, err)
	store := memstore.New(nil)
	svc, err := webtrigger.New(store, agent, &webtrigger.Options{BaseURL: "https://app.example.com", DeltaInterval: -1})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	for _, typ := range output {
		task, err := svc.CreateTaskDefinition(t.Context(), webtrigger.TaskDefinition{
			AssistantID: "1", Name: "Test", Instructions: "Test.", OutputType: typ, Active: true,
		})
		require.NoError(t, err)
		request.TaskDefinitionID = task.ID
	}
	run, err := svc.Trigger(t.Context(), "1", request)
	require.NoError(t, err)
	require.NoError(t, svc.Execute(t.Context(), run.ID))
	run, err = store.RunByID(t.Context(), run.ID)
	require.NoError(t, err)
	page, err := store.Events(t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 100_000})
	require.NoError(t, err)
	return played{run, page.Events}
}

func message(text string) webtrigger.TriggerRequest { return webtrigger.TriggerRequest{Message: text} }

// texts are the texts of the events of a type.
func (p played) texts(t *testing.T, typ webtrigger.EventType) (texts []string) {
	t.Helper()
	for _, e := range p.events {
		if e.Type == typ {
			var payload struct{ Text *string }
			require.NoError(t, json.Unmarshal(e.Payload, &payload))
			require.NotNil(t, payload.Text)
			texts = append(texts, *payload.Text)
		}
	}
	return texts
}

func TestResult(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, message, want string }{
		{"no script", "What can you do?", "You said: What can you do?"},
		{"several lines", "a\nb /say no\n c", "You said: a\nb /say no\n c"},
		{"/say", "/say hello there", "hello there"},
		{"last /say wins", "/say one\n/say two\nand more\n/say three", "three"},
		{"among text", "Please\n/say yes\nthanks", "yes"},
		{"outer spaces stay", "/say   x  ", "  x  "},
		{"CRLF", "/emit 1\r\n/say one\r\n/say two\r\n", "two"},
		{"CRLF with numbers", "/stream 2\r\n/sleep 0s\r\n/say ab\r\n", "ab"},
		{"an indented slash is text", " /fail no", "You said:  /fail no"},
		{"tool", `/tool calculator {"expression":"6*7"}`, "The tool said: 42"},
		{"tool and /say", "/tool calculator {\"expression\":\"6*7\"}\n/say done", "done"},
		{"tools", "/tool calculator {\"expression\":\"1+1\"}\n/tool calculator {\"expression\":\"2+2\"}", "The tool said: 4"},
		{"tool without arguments", "/tool current_time", "The tool said: "},
		{"tool's error is returned", `/tool calculator {"expression":"1/0"}`, "The tool said: Error: division by zero"},
		{"unknown tool", `/tool nothing {}`, `The tool said: Error: the tool "nothing" is not available. Call one of these tools, or answer without them: search_knowledge, current_time, calculator.`},
		{"bad arguments", `/tool calculator {"expression"`, "The tool said: Error: the arguments are not valid: "},
		{"words", "/stream 3", "word1 word2 word3"},
		{"nothing streamed", "/stream 0", "You said: /stream 0"},
		{"spaces around numbers", "/emit  2 \n/say x", "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := play(t, message(tt.message))
			require.Equal(t, webtrigger.RunCompleted, p.run.Status, p.run.ErrorMessage)
			if strings.HasSuffix(tt.want, ": ") {
				require.Contains(t, p.run.Result, tt.want)
				return
			}
			require.Equal(t, tt.want, p.run.Result)
			require.Equal(t, []string{tt.want}, p.texts(t, webtrigger.EventMessageCompleted))
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, message, want string }{
		{"fail", "/fail the mailbox is full: 100 %", "the mailbox is full: 100 %"},
		{"fail among others", "/say x\n/emit 1\n/fail  two  spaces \n/panic", " two  spaces "},
		{"fail CRLF", "/fail now\r\n", "now"},
		{"fail without text", "/fail", "The assistant failed without saying why."},
		{"panic", "/panic", "The assistant crashed."},
		{"unknown", "/say x\n/dance", `unknown command "/dance"`},
		{"a slash", "/", `unknown command "/"`},
		{"case", "/Say x", `unknown command "/Say"`},
		{"sleep without", "/sleep", `/sleep needs a duration such as 1.5s, not ""`},
		{"sleep a number", "/sleep 5", `/sleep needs a duration such as 1.5s, not "5"`},
		{"sleep back", "/sleep -1s", `/sleep needs a duration such as 1.5s, not "-1s"`},
		{"stream without", "/stream", `/stream needs a number up to 10000, not ""`},
		{"stream word", "/stream many", `/stream needs a number up to 10000, not "many"`},
		{"stream negative", "/stream -1", `/stream needs a number up to 10000, not "-1"`},
		{"stream too many", "/stream 10001", `/stream needs a number up to 10000, not "10001"`},
		{"stream overflow", "/stream 99999999999999999999", `/stream needs a number up to 10000, not "99999999999999999999"`},
		{"stream too many in all", "/stream 6000\n/stream 6000", "the /stream lines ask for more than 10000 in all"},
		{"emit fraction", "/emit 1.5", `/emit needs a number up to 10000, not "1.5"`},
		{"emit too many in all", "/emit 10000\n/emit 1", "the /emit lines ask for more than 10000 in all"},
		{"tool without name", "/tool", "/tool needs the name of a tool"},
		{"a bad line later spoils all", "/emit 3\n/tool current_time\n/sleep x", `/sleep needs a duration such as 1.5s, not "x"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := play(t, message(tt.message))
			require.Equal(t, webtrigger.RunFailed, p.run.Status)
			require.Equal(t, tt.want, p.run.ErrorMessage)
			require.Empty(t, p.run.StatusDetail)
			last := p.events[len(p.events)-1]
			require.Equal(t, webtrigger.EventRunFailed, last.Type)
		})
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	const tool = "\n/tool calculator {\"expression\":\"1\"}\n"
	for _, tt := range []struct {
		name, message string
		n             int
	}{
		{"alone", "/stream 5", 5},
		{"one", "/stream 1", 1},
		{"with /say", "/say a longer text to be cut\n/stream 4", 4},
		{"/say after it", "/stream 4\n/say a longer text to be cut", 4},
		{"short text", "/stream 7\n/say abc", 7},
		{"characters stay whole", "/stream 3\n/say äöüß€😀x", 3},
		{"twice", "/stream 2\n/emit 1\n/stream 3\n/say abcdefghij", 5},
		{"around a tool", "/stream 2" + tool + "/stream 3", 5},
		{"around a tool, with /say", "/stream 2" + tool + "/stream 3\n/say abcdefghij", 5},
		{"before a tool", "/stream 4" + tool + "/say abcdefghij", 4},
		{"after a tool", tool + "/stream 4\n/say abcdefghij", 4},
		{"around tools", "/stream 1" + tool + "/stream 2" + tool + tool + "/stream 3", 6},
		{"many", "/stream 2000", 2000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := play(t, message(tt.message))
			require.Equal(t, webtrigger.RunCompleted, p.run.Status, p.run.ErrorMessage)
			deltas := p.texts(t, webtrigger.EventMessageDelta)
			require.Len(t, deltas, tt.n)
			require.Equal(t, p.run.Result, strings.Join(deltas, ""))
		})
	}
}

func TestEmit(t *testing.T) {
	t.Parallel()
	p := play(t, message("/emit 3\n/tool current_time\n/emit 2\n/say x"))
	var steps, types []string
	for _, e := range p.events {
		types = append(types, string(e.Type))
		if e.Type == "x_step" {
			steps = append(steps, string(e.Payload))
		}
	}
	require.Equal(t, []string{`{"of":3,"step":1}`, `{"of":3,"step":2}`, `{"of":3,"step":3}`, `{"of":2,"step":1}`, `{"of":2,"step":2}`}, steps)
	require.Equal(t, []string{
		"run_queued", "run_started", "x_step", "x_step", "x_step", "model_completed", "tool_started", "tool_completed",
		"x_step", "x_step", "message_delta", "model_completed", "message_completed", "run_completed",
	}, types)
	require.Len(t, play(t, message("/emit 0\n/say x")).events, 6)
}

// A model that is asked to repair its answer has played its script already.
func TestRepairPlaysNothingTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := play(t, message("/sleep 1s\n/emit 2\n/tool current_time\n/stream 3\n/say no JSON"), webtrigger.OutputJSON)
		require.Equal(t, webtrigger.RunFailed, p.run.Status)
		require.Contains(t, p.run.ErrorMessage, "not valid JSON")
		require.Equal(t, time.Second, time.Since(began))
		var types []string
		for _, e := range p.events {
			types = append(types, string(e.Type))
		}
		require.Equal(t, []string{
			"run_queued", "run_started", "x_step", "x_step", "model_completed", "tool_started", "tool_completed",
			"model_completed", "x_output_rejected", "model_completed", "run_failed",
		}, types)
	})
}

func TestToolCallIDsAreUnique(t *testing.T) {
	t.Parallel()
	p := play(t, message(strings.Repeat("/tool current_time\n", 4)))
	seen := map[string]bool{}
	for _, e := range p.events {
		if e.Type == webtrigger.EventToolStarted {
			var payload struct {
				CallID string `json:"call_id"`
			}
			require.NoError(t, json.Unmarshal(e.Payload, &payload))
			require.False(t, seen[payload.CallID], payload.CallID)
			seen[payload.CallID] = true
		}
	}
	require.Len(t, seen, 4)
}

func TestUsage(t *testing.T) {
	t.Parallel()
	p := play(t, message("/say 12345678"))
	require.Equal(t, &webtrigger.Usage{InputTokens: 4, OutputTokens: 2}, p.run.Usage)
}

// Only the raw message is a script: not what its context adds to the prompt.
func TestContextIsNotObeyed(t *testing.T) {
	t.Parallel()
	p := play(t, webtrigger.TriggerRequest{
		Message: "hello", Context: json.RawMessage(`{"/fail boom":"x","/say":"no","note":"a\n/panic"}`),
	})
	require.Equal(t, webtrigger.RunCompleted, p.run.Status, p.run.ErrorMessage)
	require.Equal(t, "You said: hello\n\nContext:\n/fail boom: x\n/say: no\nnote: \"a\\n/panic\"", p.run.Result)

	p = play(t, webtrigger.TriggerRequest{Message: "/say mine", Context: json.RawMessage(`{"/say theirs":""}`)})
	require.Equal(t, "mine", p.run.Result)
}

func TestWithoutATaskThePromptIsTheScript(t *testing.T) {
	t.Parallel()
	response, err := scripted.New().Generate(t.Context(), request("/say hello"), nowhere)
	require.NoError(t, err)
	require.Equal(t, "hello", response.Text)
	require.Equal(t, scripted.Name, response.Model)
	require.Equal(t, llm.FinishStop, response.Finish)

	response, err = scripted.New().Generate(t.Context(), &llm.Request{}, nowhere)
	require.NoError(t, err)
	require.Equal(t, "You said: ", response.Text)
}

func request(message string) *llm.Request {
	return &llm.Request{Messages: []llm.Message{{Role: webtrigger.RoleUser, Content: message}}}
}

func nowhere(llm.Chunk) error { return nil }

func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		response, err := scripted.New().Generate(t.Context(), request("/sleep 1.5s\n/sleep  2m \n/say awake"), nowhere)
		require.NoError(t, err)
		require.Equal(t, "awake", response.Text)
		require.Equal(t, 2*time.Minute+1500*time.Millisecond, time.Since(began))
	})
}

// What stands before a tool call is not played again after it.
func TestSleepAroundATool(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := play(t, message("/sleep 1s\n/tool current_time\n/sleep 2s\n/tool current_time\n/sleep 4s"))
		require.Equal(t, webtrigger.RunCompleted, p.run.Status)
		require.Equal(t, 7*time.Second, time.Since(began))
	})
}

func TestWaitsEndWithTheCause(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"/hang", "/sleep 10h", "/say x\n/hang\n/fail no"} {
		synctest.Test(t, func(t *testing.T) {
			cause := errors.New("the reason")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Hour, func() { cancel(cause) })
			began := time.Now()
			response, err := scripted.New().Generate(ctx, request(script), nowhere)
			require.ErrorIs(t, err, cause)
			require.Nil(t, response)
			require.Equal(t, time.Hour, time.Since(began))
		})
	}
}

func TestHangEndsAtTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := play(t, message("/hang"))
		require.Equal(t, webtrigger.RunTimedOut, p.run.Status)
		require.Equal(t, "deadline exceeded", p.run.StatusDetail)
	})
}

func TestComplete_rejectedChunk_endsCall(t *testing.T) {
	t.Parallel()
	rejected := errors.New("rejected")
	for _, script := range []string{"/stream 5", "/emit 5"} {
		n := 0
		_, err := scripted.New().Generate(t.Context(), request(script), func(llm.Chunk) error {
			if n++; n == 3 {
				return rejected
			}
			return nil
		})
		require.ErrorIs(t, err, rejected)
		require.Equal(t, 3, n)
	}
}

func FuzzScript(f *testing.F) {
	for _, seed := range []string{
		"hello", "/say x\r\n/stream 3", "/stream 2\n/tool calculator {\"expression\":\"1\"}\n/stream 2\n/say äöü",
		"/tool\n", "/tool x", "/emit 2\n/sleep 0s", "/hang", "/fail x", "/sleep 99999h", "/stream 99999999999", "/\n//\n/ say", "/say \xff\xfe\n/stream 2",
	} {
		f.Add(seed)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel() // what waits does not
	f.Fuzz(func(t *testing.T, text string) {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "/panic") {
				t.Skip()
			}
		}
		req := request(text)
		req.Task = &webtrigger.Task{Input: webtrigger.RunInput{Message: text}, Prompt: text}
		var streamed strings.Builder
		chunks := 0
		for step := range 5 {
			response, err := scripted.New().Generate(ended, req, func(c llm.Chunk) error {
				if c.Type == "" {
					streamed.WriteString(c.Text)
					chunks++
				}
				return nil
			})
			if err != nil {
				require.Nil(t, response)
				return
			}
			if len(response.ToolCalls) == 0 {
				if chunks > 0 { // invalid UTF-8 never gets here from a trigger
					require.Equal(t, string([]rune(response.Text)), streamed.String())
				}
				return
			}
			require.Len(t, response.ToolCalls, 1)
			require.Equal(t, fmt.Sprintf("call_%d", step+1), response.ToolCalls[0].ID)
			req.Messages = append(req.Messages,
				llm.Message{Role: webtrigger.RoleAssistant, ToolCalls: response.ToolCalls},
				llm.Message{Role: webtrigger.RoleTool, Content: "result", ToolCallID: response.ToolCalls[0].ID})
		}
	})
}

func TestHistory_continuedConversation_listsEarlierMessages(t *testing.T) {
	t.Parallel()
	agent, err := llm.NewAgent(scripted.New(), &llm.AgentOptions{Tools: demotools.Tools()})
	require.NoError(t, err)
	svc, err := webtrigger.New(memstore.New(nil), agent, &webtrigger.Options{BaseURL: "https://app.example.com"})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	conversation := int64(0)
	for _, exchange := range [][2]string{
		{"/history", "There are no earlier messages."},
		{"/tool calculator {\"expression\":\"6*7\"}\n/say done", "done"},
		{"/tool calculator {\"expression\":\"1+1\"}", "The tool said: 2"},
		{"/tool calculator {\"expression\":\"1+1\"}", "The tool said: 2"}, // the same prompt again
		{"/history", "user: /history\nassistant: There are no earlier messages.\n" +
			"user: /tool calculator {\"expression\":\"6*7\"} /say done\ntool: 42\nassistant: done\n" +
			strings.Repeat("user: /tool calculator {\"expression\":\"1+1\"}\ntool: 2\nassistant: The tool said: 2\n", 2)},
	} {
		run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: exchange[0], ConversationID: conversation})
		require.NoError(t, err)
		conversation = run.ConversationID
		require.NoError(t, svc.Execute(t.Context(), run.ID))
		run, err = svc.RunByID(t.Context(), run.ID)
		require.NoError(t, err)
		require.Equal(t, strings.TrimSuffix(exchange[1], "\n"), run.Result)
	}
}
