package llm_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

// spoken is one answer of a model, and the pieces that stream before it.
type spoken struct {
	pieces   []string
	response llm.Response
}

// speaker is a model that streams.
type speaker struct {
	answers []spoken
	asked   int
}

func (s *speaker) Generate(_ context.Context, _ *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	now := s.answers[min(s.asked, len(s.answers)-1)]
	s.asked++
	for _, piece := range now.pieces {
		if err := stream(llm.Chunk{Text: piece}); err != nil {
			return nil, err
		}
	}
	return &now.response, nil
}

// messages groups what was shown in pieces by the message_completed that ends it.
func (r *recorder) messages() (pieced, whole []string) {
	text := ""
	for _, e := range r.events {
		switch e.Type {
		case webtrigger.EventMessageDelta:
			text += e.Payload["text"].(string)
		case webtrigger.EventMessageCompleted:
			pieced, whole = append(pieced, text), append(whole, e.Payload["text"].(string))
			text = ""
		}
	}
	if text != "" {
		pieced = append(pieced, text)
	}
	return pieced, whole
}

func TestPiecesMakeUpTheResult(t *testing.T) {
	t.Parallel()
	looks := []llm.ToolCall{call("", "a", `{}`)}
	for _, tt := range []struct {
		name    string
		answers []spoken
		want    []string // the messages; the last is the result
	}{
		{"streamed", []spoken{{[]string{"He", "llo"}, says("Hello")}}, []string{"Hello"}},
		{"not streamed", []spoken{{nil, says("Hello")}}, []string{"Hello"}},
		{"the end is not streamed", []spoken{{[]string{"Hel"}, says("Hello")}}, []string{"Hello"}},
		{"streamed only", []spoken{{[]string{"Hel", "lo"}, says("")}}, []string{"Hello"}},
		{"empty pieces", []spoken{{[]string{"", "Hello", ""}, says("Hello")}}, []string{"Hello"}},
		{"a character in two pieces", []spoken{{[]string{"gr\xc3", "\xbc\xc3", "\x9f \xf0\x9f", "\x98", "\x80"}, says("grüß 😀")}}, []string{"grüß 😀"}},
		{"a character that never ends", []spoken{{[]string{"a\xf0\x9f"}, says("a\xf0\x9f")}}, []string{"a\uFFFD"}},
		{"invalid and NUL", []spoken{{[]string{"a\xff", "\x00b"}, says("a\xff\x00b")}}, []string{"a\uFFFD\uFFFDb"}},
		{"a word before a tool", []spoken{
			{[]string{"Let me ", "see."}, llm.Response{Text: "Let me see.", ToolCalls: looks}},
			{[]string{"It is ", "done."}, says("It is done.")},
		}, []string{"Let me see.", "It is done."}},
		{"a message that continues after a tool", []spoken{
			{[]string{"It is "}, llm.Response{ToolCalls: looks}}, {[]string{"done"}, says("It is done.")},
		}, []string{"It is done."}},
		{"white space", []spoken{{[]string{" \n"}, llm.Response{Text: " \n", ToolCalls: looks}}, {nil, says(" x ")}}, []string{" \n", " x "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rec := new(recorder)
			agent := newAgent(t, &speaker{answers: tt.answers}, &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result("1"))}})
			got, err := agent.Run(t.Context(), task(nil), rec.emit)
			require.NoError(t, err)
			pieced, whole := rec.messages()
			require.Equal(t, tt.want, pieced)
			require.Equal(t, tt.want, whole)
			require.Equal(t, tt.want[len(tt.want)-1], got.Text)
		})
	}
}

// For any text of a model, in any pieces: the pieces make up the result.
func TestPiecesMakeUpAnyResult(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(rt, "text")
		if strings.TrimSpace(text) == "" {
			text = "x"
		}
		var pieces []string
		for rest := text; rest != "" && rapid.Bool().Draw(rt, "continue"); {
			n := rapid.IntRange(0, len(rest)).Draw(rt, "piece")
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		rec := new(recorder)
		agent := newAgent(t, &speaker{answers: []spoken{{pieces, says(text)}}}, nil)
		got, err := agent.Run(context.Background(), task(nil), rec.emit)
		require.NoError(rt, err)
		pieced, whole := rec.messages()
		require.Equal(rt, []string{got.Text}, pieced)
		require.Equal(rt, []string{got.Text}, whole)
		require.True(rt, utf8.ValidString(got.Text))
		if utf8.ValidString(text) {
			require.Equal(rt, strings.ReplaceAll(text, "\x00", "\uFFFD"), got.Text)
		}
	})
}

func TestAnAnswerThatDiffersFromWhatStreamedFails(t *testing.T) {
	t.Parallel()
	agent := newAgent(t, &speaker{answers: []spoken{{[]string{"Hello"}, says("Good day")}}}, nil)
	got, err := agent.Run(t.Context(), task(nil), new(recorder).emit)
	require.EqualError(t, err, "The model's answer differs from what it streamed.")
	require.Empty(t, got.Text)
}

// A model that never ends is stopped where its answer could not be stored.
func TestEndlessStreamIsStopped(t *testing.T) {
	t.Parallel()
	for _, def := range []*webtrigger.TaskDefinition{nil, jsonTask("")} {
		piece, said := strings.Repeat("x", 10<<10), 0
		endless := modelFunc(func(_ context.Context, _ *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
			for {
				if err := stream(llm.Chunk{Text: piece}); err != nil {
					return nil, err
				}
				said += len(piece)
			}
		})
		_, err := newAgent(t, endless, nil).Run(t.Context(), task(def), new(recorder).emit)
		require.EqualError(t, err, "The result is larger than 1 MiB.")
		require.LessOrEqual(t, said, webtrigger.MaxResultBytes)
	}
}

func TestEmptyAnswers(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " \n"} {
		rec := new(recorder)
		got, err := newAgent(t, &answers{responses: []llm.Response{says(text)}}, nil).Run(t.Context(), task(nil), rec.emit)
		require.EqualError(t, err, "The model gave an empty answer.")
		require.Empty(t, got.Text)
	}
	// A model does not need to answer after its tools have done the task.
	rec := new(recorder)
	model := &answers{responses: []llm.Response{calls("a", `{}`), says("")}}
	got, err := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result("sent"))}}).Run(t.Context(), task(nil), rec.emit)
	require.NoError(t, err)
	require.Empty(t, got.Text)
	require.Equal(t, []string{"model_completed", "tool_started", "tool_completed", "model_completed"}, rec.types())
}

// Under a service: the stored events make up the stored result.
func TestStoredPiecesMakeUpTheStoredResult(t *testing.T) {
	t.Parallel()
	var pieces []string
	for i := range 300 {
		pieces = append(pieces, fmt.Sprintf("piece %d 🌍, ", i))
	}
	agent := newAgent(t, &speaker{answers: []spoken{{pieces, says(strings.Join(pieces, ""))}}}, nil)
	run, events := execute(t, agent, "hello")
	require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
	text := ""
	for _, e := range events {
		if e.Type == webtrigger.EventMessageDelta {
			text += textOf(t, e)
		}
	}
	require.Equal(t, strings.Join(pieces, ""), run.Result)
	require.Equal(t, run.Result, text)
}
