package webtrigger_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// emitting executes a run whose Runner is f and returns its events between
// run_started and the terminal one.
func emitting(t *testing.T, f func(emit webtrigger.Emit)) []webtrigger.Event {
	t.Helper()
	var kept webtrigger.Emit
	b := setup(t, webtrigger.RunnerFunc(func(_ context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
		kept = emit
		f(emit)
		return nil, nil
	}), nil)
	run := b.trigger("go")
	require.NoError(t, b.svc.Execute(b.ctx, run.ID))
	require.Error(t, kept("x_late", struct{}{}), "nothing is recorded after the end")
	b.events(run) // sequences have no hole
	page, err := b.store.Events(b.ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, AfterID: 2, Limit: 1 << 20})
	require.NoError(t, err)
	return page.Events[:len(page.Events)-1]
}

func TestEmitRefuses(t *testing.T) {
	t.Parallel()
	object := struct{}{}
	tests := map[string]struct {
		typ     webtrigger.EventType
		payload any
	}{
		"a terminal type":         {webtrigger.EventRunCompleted, object},
		"a type of the library":   {webtrigger.EventRunStarted, object},
		"an unknown type":         {"step", object},
		"no type":                 {"", object},
		"a payload not an object": {"x_step", []int{1}},
		"a payload of null":       {"x_step", nil},
		"what does not marshal":   {"x_step", make(chan int)},
		"invalid raw JSON":        {"x_step", json.RawMessage(`{"a":`)},
		"over 256 KiB":            {"x_step", map[string]string{"a": strings.Repeat("x", webtrigger.MaxEventPayloadBytes)}},
		"a very long type":        {webtrigger.EventType("x_" + strings.Repeat("y", 100)), object},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Empty(t, emitting(t, func(emit webtrigger.Emit) { require.Error(t, emit(test.typ, test.payload)) }))
		})
	}
}

func TestEmitMakesTextValid(t *testing.T) {
	t.Parallel()
	events := emitting(t, func(emit webtrigger.Emit) {
		require.NoError(t, emit("x_step", map[string]string{"a": "x\x00y\xffz", "b": `\u0000`, "c": "<&>"}))
		require.NoError(t, emit("x_step", json.RawMessage(`{"n": 1e22, "k\u0000": "\\u0000 \u0000"}`)))
		require.NoError(t, emit("x_step", json.RawMessage(`{"a":"\ud83d\ude00","b":"\ud800x\udc00\ud800\ud83d\ude00","c":"\\ud800"}`)))
	})
	require.Equal(t, "{\"a\":\"x\uFFFDy\\ufffdz\",\"b\":\"\\\\u0000\",\"c\":\"<&>\"}", string(events[0].Payload))
	require.Equal(t, `{"a":"\ud83d\ude00","b":"`+"\uFFFDx\uFFFD\uFFFD"+`\ud83d\ude00","c":"\\ud800"}`, string(events[2].Payload))
	require.Equal(t, "{\"n\":1e22,\"k\uFFFD\":\"\\\\u0000 \uFFFD\"}", string(events[1].Payload))
}

func TestEmitKeepsOrderUnderLoad(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 2000
	events := emitting(t, func(emit webtrigger.Emit) {
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for i := range each {
					if err := emit("x_step", map[string]int{"w": w, "i": i}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	})
	require.Len(t, events, writers*each)
	next := make(map[int]int)
	for _, e := range events {
		var step struct{ W, I int }
		require.NoError(t, json.Unmarshal(e.Payload, &step))
		require.Equal(t, next[step.W], step.I, "writer %d", step.W)
		next[step.W]++
	}
}
