package client_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// piece is an event of run 1 with a text. "-": without one.
func piece(sequence int64, typ, text string) client.Event {
	payload := json.RawMessage(`{}`)
	if text != "-" {
		payload, _ = json.Marshal(map[string]string{"text": text})
	}
	return client.Event{ID: sequence, Sequence: sequence, RunID: 1, Type: typ, Payload: payload}
}

// script makes events of run 1 from "type text" lines, with sequences from 1 on.
// "gap" skips one.
func script(lines ...string) (events []client.Event) {
	for i, line := range lines {
		typ, text, ok := strings.Cut(line, " ")
		if !ok {
			text = "-"
		}
		if typ != "gap" {
			events = append(events, piece(int64(i+1), typ, text))
		}
	}
	return events
}

func TestTextCollector_events_textIsCurrentMessage(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 10_000)
	for name, c := range map[string]struct {
		events   []client.Event
		text     string
		complete bool
	}{
		"nothing":                    {nil, "", false},
		"queued":                     {script("run_queued"), "", false},
		"pieces":                     {script("run_queued", "run_started", "message_delta Hel", "message_delta lo"), "Hello", false},
		"complete":                   {script("run_queued", "run_started", "message_delta Hel", "message_delta lo", "message_completed Hello"), "Hello", true},
		"completed text replaces":    {script("run_queued", "run_started", "message_delta Hel", "message_completed Hello!"), "Hello!", true},
		"completed without text":     {script("run_queued", "run_started", "message_delta Hel", "message_completed"), "Hel", true},
		"completed without pieces":   {script("run_queued", "run_started", "message_completed Hello"), "Hello", true},
		"completed text is shorter":  {script("run_queued", "run_started", "message_delta "+long, "message_completed "+long[:100]+"…"), long, true},
		"an ellipsis of its own":     {script("run_queued", "run_started", "message_delta Well", "message_completed Well…"), "Well…", true},
		"another message":            {script("run_queued", "run_started", "message_completed Let me look.", "tool_started", "tool_completed", "message_delta It is"), "It is", false},
		"kept until the next":        {script("run_queued", "run_started", "message_delta Let me look.", "message_completed Let me look.", "tool_started"), "Let me look.", true},
		"requeued, complete":         {script("run_queued", "run_started", "message_completed Hello", "run_requeued", "run_started"), "Hello", true},
		"requeued, another message":  {script("run_queued", "run_started", "message_completed Hello", "run_requeued", "run_started", "message_delta He"), "He", false},
		"requeued":                   {script("run_queued", "run_started", "message_delta Hel", "run_requeued", "run_started", "message_delta He"), "He", false},
		"run without a completion":   {script("run_queued", "run_started", "message_delta Hel", "run_completed"), "Hel", true},
		"failed":                     {script("run_queued", "run_started", "message_delta Hel", "run_failed"), "Hel", false},
		"a piece without text":       {script("run_queued", "run_started", "message_delta Hel", "message_delta", "message_delta lo"), "Hello", false},
		"a type of the Runner":       {script("run_queued", "run_started", "message_delta Hel", "x_step text"), "Hel", false},
		"missing piece":              {script("run_queued", "run_started", "message_delta Hel", "gap", "message_delta o"), "", false},
		"missing piece, then whole":  {script("run_queued", "run_started", "message_delta Hel", "gap", "message_delta o", "message_completed Hello"), "Hello", true},
		"missing piece, run ends":    {script("run_queued", "run_started", "message_delta Hel", "gap", "message_delta o", "run_completed"), "", false},
		"missing piece, requeued":    {script("run_queued", "run_started", "gap", "message_delta Hel", "run_requeued", "run_started", "message_delta He"), "He", false},
		"missing end, another piece": {script("run_queued", "run_started", "message_delta One", "gap", "message_delta Two"), "", false},
		"missing, no text at the end": {
			script("run_queued", "run_started", "gap", "message_delta Hel", "message_completed"), "", false},
		"missing end of the run":  {script("run_queued", "run_started", "message_completed One", "gap", "run_completed"), "", false},
		"the stream begins later": {script("gap", "gap", "message_delta lo"), "", false},
	} {
		var got client.TextCollector
		for _, e := range c.events {
			got.Add(e)
		}
		text, complete := got.Text(1)
		require.Equal(t, c.text, text, name)
		require.Equal(t, c.complete, complete, name)
	}
}

func TestTextCollector_duplicates_changeNothing(t *testing.T) {
	t.Parallel()
	events := script("run_queued", "run_started", "message_delta Hel", "message_delta lo", "message_completed Hello", "message_delta Bye")
	var got client.TextCollector
	for i := range events { // each reconnection begins at the start
		for _, e := range events[:i+1] {
			got.Add(e)
		}
	}
	text, complete := got.Text(1)
	require.Equal(t, "Bye", text)
	require.False(t, complete)

	var twice client.TextCollector
	for i, e := range events[:4] {
		twice.Add(e)
		twice.Add(events[max(0, i-1)])
		twice.Add(e)
	}
	text, _ = twice.Text(1)
	require.Equal(t, "Hello", text)
}

func TestTextCollector_conversation_keepsRunsApart(t *testing.T) {
	t.Parallel()
	first := script("run_queued", "run_started", "message_delta one", "message_completed one", "run_completed")
	second := script("run_queued", "run_started", "message_delta two", "run_requeued", "run_started", "message_delta zwei")
	var got client.TextCollector
	for i := range second {
		if i < len(first) {
			got.Add(first[i])
		}
		e := second[i]
		e.RunID = 2
		got.Add(e)
	}
	text, complete := got.Text(1)
	require.Equal(t, "one", text)
	require.True(t, complete)
	text, complete = got.Text(2)
	require.Equal(t, "zwei", text)
	require.False(t, complete)
	_, complete = got.Text(3)
	require.False(t, complete)
}

// A service shuts down in the middle of a text, and another one executes the run
// again. The collected text is the result, and not that of both attempts.
func TestTextCollector_requeuedRun_textEqualsResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		first, second := speaking(t, store, true), speaking(t, store, false)
		require.NoError(t, first.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
		_, key, err := first.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "test"})
		require.NoError(t, err)
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+key)
			second.ServeHTTP(w, r)
		}), nil, client.Options{})

		ctx, cancel := context.WithCancel(t.Context())
		worked := make(chan error, 1)
		go func() { worked <- first.Work(ctx) }()
		id := start(t, c)
		var text client.TextCollector
		shown := ""
		for event, err := range c.Stream(t.Context(), id) {
			require.NoError(t, err)
			text.Add(event)
			now, _ := text.Text(event.RunID)
			shown += now + "|"
			if event.Sequence == 5 { // queued, started, and three pieces
				cancel()
				require.NoError(t, <-worked)
				ctx, cancel = context.WithCancel(t.Context())
				go func() { worked <- second.Work(ctx) }()
			}
		}
		status, err := c.Wait(t.Context(), id)
		require.NoError(t, err)
		cancel()
		require.NoError(t, <-worked)
		got, complete := text.Text(status.RunID)
		require.Equal(t, "It is not over.", *status.Result)
		require.Equal(t, *status.Result, got)
		require.True(t, complete)
		require.Equal(t, "||It |It is |It is not |It is not ||It |It is |It is not |It is not over.|It is not over.|", shown,
			"the second attempt must begin again")
	})
}

// speaking returns a service whose Runner streams a text, or hangs before its last
// word.
func speaking(t *testing.T, store webtrigger.Store, hang bool) *webtrigger.Service {
	t.Helper()
	svc, err := webtrigger.New(store, webtrigger.RunnerFunc(
		func(ctx context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
			text := ""
			for _, word := range []string{"It ", "is ", "not ", "over."} {
				if hang && word == "over." {
					<-ctx.Done()
					return nil, context.Cause(ctx)
				}
				text += word
				if err := emit(webtrigger.EventMessageDelta, map[string]string{"text": word}); err != nil {
					return nil, err
				}
				time.Sleep(time.Second) // so that each word is an event
			}
			return &webtrigger.Result{Text: text}, nil
		}), &webtrigger.Options{BaseURL: "https://app.example.com", MaxAttempts: 2, DrainTimeout: -1})
	require.NoError(t, err)
	t.Cleanup(svc.CloseStreams)
	return svc
}
