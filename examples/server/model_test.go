package main_test

import (
	"net/http/httptest"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/modeltest"
)

const vendorKey = "sk-evaluation-0123456789"

// A server with a vendor's key in its environment talks to that vendor: the demo
// tools are offered, called and answered, and the text streams.
func TestRealModels(t *testing.T) {
	t.Parallel()
	openai := modeltest.NewOpenAI(vendorKey, modeltest.OpenAITurn(func(o modeltest.OpenAI) {
		o.Role()
		o.Call(0, "call_1", "calculator")
		o.Arguments(0, `{"expression": `, `"6*7"}`)
		o.Finish("tool_calls")
		o.End(20, 10)
	}), modeltest.Reject(503, "{}", "Retry-After-Ms", "5"), modeltest.OpenAIText("It is ", "42."))
	anthropic := modeltest.NewAnthropic(vendorKey, modeltest.AnthropicTurn(func(a modeltest.Anthropic) {
		a.Start()
		a.Tool(0, "toolu_1", "calculator")
		a.Input(0, `{"expression": `, `"6*7"}`)
		a.BlockStop(0)
		a.End("tool_use", 10)
	}), modeltest.Reject(529, "{}", "Retry-After-Ms", "5"), modeltest.AnthropicText("It is ", "42."))

	for name, c := range map[string]struct {
		fake      *modeltest.Server
		env       func(base string) []string
		announced string
		model     string
	}{
		"openai": {openai, func(base string) []string {
			return []string{"OPENAI_API_KEY=" + vendorKey, "OPENAI_BASE_URL=" + base + "/v1", "OPENAI_MODEL=gpt-mine", "ANTHROPIC_API_KEY=the second"}
		}, "model     gpt-mine (by OPENAI_API_KEY)", "gpt-mine"},
		"anthropic": {anthropic, func(base string) []string {
			return []string{"ANTHROPIC_API_KEY=" + vendorKey, "ANTHROPIC_BASE_URL=" + base, "ANTHROPIC_MODEL=claude-mine"}
		}, "model     claude-mine (by ANTHROPIC_API_KEY)", "claude-mine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vendor := httptest.NewServer(c.fake)
			t.Cleanup(vendor.Close)
			s := startWith(t, c.env(vendor.URL), "-db", "memory")
			s.hush.add(vendorKey)
			require.Contains(t, s.Stdout.String(), c.announced)
			require.NotContains(t, s.Stdout.String(), vendorKey)

			run := s.say("/say this is not a command for a real model")
			require.Equal(t, "It is 42.", s.ended(run)["result"])
			streamed := ""
			for _, e := range s.events(run) {
				switch e.Type {
				case "tool_completed":
					require.Equal(t, "42", e.Payload["result"])
				case "message_delta":
					streamed += e.Payload["text"].(string)
				}
			}
			require.Equal(t, "It is 42.", streamed)
			requests := c.fake.Requests()
			require.Len(t, requests, 3, "the second must be rejected and retried")
			require.Len(t, requests[0].Body["tools"], 4, "three tools, and ask_human")
			require.Equal(t, c.model, requests[0].Body["model"])
			require.Contains(t, s.Stderr.String(), "model call failed")
		})
	}
}

// A key that cannot be sent ends the start, and is not shown.
func TestBadModelKey(t *testing.T) {
	t.Parallel()
	cmd := command(t, "-addr", "127.0.0.1:0")
	cmd.Env = append(cmd.Env, "OPENAI_API_KEY="+vendorKey+" x")
	out, err := cmd.CombinedOutput()
	require.IsType(t, new(exec.ExitError), err)
	require.Contains(t, string(out), "openai: API key must have visible ASCII characters only")
	require.NotContains(t, string(out), vendorKey)
}
