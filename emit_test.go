package webtrigger_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
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
	b.events(run) // sequences have no gap
	page, err := b.store.Events(b.ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, AfterID: 2, Limit: 1 << 20})
	require.NoError(t, err)
	return page.Events[:len(page.Events)-1]
}

func TestEmit_invalidEvent_returnsError(t *testing.T) {
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

// streaming executes a run whose Runner is f, in a bubble, and returns the
// events that f emitted as they were stored.
func streaming(t *testing.T, interval time.Duration, f func(emit webtrigger.Emit)) (events []webtrigger.Event) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		runner := webtrigger.RunnerFunc(func(_ context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
			f(emit)
			return nil, nil
		})
		b := setupOn(t, store, runner, &webtrigger.Options{BaseURL: "https://app.example.com", DeltaInterval: interval})
		run := b.trigger("go")
		require.NoError(t, b.svc.Execute(b.ctx, run.ID))
		page, err := store.Events(b.ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, AfterID: 2, Limit: 1 << 20})
		require.NoError(t, err)
		events = page.Events[:len(page.Events)-1]
	})
	return events
}

type text struct {
	Text string `json:"text"`
}

// texts returns the texts of the deltas among events.
func texts(t *testing.T, events []webtrigger.Event) (all []string) {
	t.Helper()
	for _, e := range events {
		if e.Type == webtrigger.EventMessageDelta {
			var piece text
			require.NoError(t, json.Unmarshal(e.Payload, &piece), "%s", e.Payload)
			all = append(all, piece.Text)
		}
	}
	return all
}

func TestDeltasAreCoalescedByTime(t *testing.T) {
	t.Parallel()
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	events := streaming(t, 0, func(emit webtrigger.Emit) {
		say := func(s string, then time.Duration) {
			require.NoError(t, emit(webtrigger.EventMessageDelta, text{s}))
			time.Sleep(then)
		}
		say("a", time.Millisecond)   // at once
		say("b", 9*time.Millisecond) // waits until 50 ms
		say("c", 30*time.Millisecond)
		say("d", 20*time.Millisecond) // from here 60 ms
		say("e", 200*time.Millisecond)
		say("f", 10*time.Millisecond) // after a pause at once
		say("g", 0)
		require.NoError(t, emit("x_step", struct{}{})) // is not overtaken, and waits for nothing
		say("h", 0)
		say("", 0)
		say("i", 0) // the end waits for nothing
	})
	require.Equal(t, []string{"a", "bcd", "e", "f", "g", "hi"}, texts(t, events))
	var at []time.Duration
	for _, e := range events {
		at = append(at, e.CreatedAt.Sub(start)/time.Millisecond)
	}
	require.Equal(t, []time.Duration{0, 50, 100, 260, 270, 270, 270}, at)
	require.EqualValues(t, "x_step", events[5].Type)
}

func TestDeltasAreCoalescedBySize(t *testing.T) {
	t.Parallel()
	piece, n := strings.Repeat("ä", 100), 200
	var want string
	events := streaming(t, time.Hour, func(emit webtrigger.Emit) {
		for range n {
			require.NoError(t, emit(webtrigger.EventMessageDelta, text{piece}))
			want += piece
		}
		long := strings.Repeat("x", 100_000)
		require.NoError(t, emit(webtrigger.EventMessageDelta, text{long}))
		want += long
		require.NoError(t, emit(webtrigger.EventMessageDelta, text{"end"}))
		want += "end"
	})
	all := texts(t, events)
	require.Equal(t, want, strings.Join(all, ""))
	require.LessOrEqual(t, len(all), 3+n*len(piece)/3500)
	for _, e := range events {
		require.True(t, len(e.Payload) <= 4<<10 || len(e.Payload) > 100_000)
	}
}

// A delta that is not only a text is a separate event. So is every delta if the host
// sets that option.
func TestDeltasThatAreNotCoalesced(t *testing.T) {
	t.Parallel()
	emitAll := func(payloads ...any) func(webtrigger.Emit) {
		return func(emit webtrigger.Emit) {
			for _, p := range payloads {
				require.NoError(t, emit(webtrigger.EventMessageDelta, p))
			}
		}
	}
	require.Len(t, streaming(t, -1, emitAll(text{"a"}, text{"b"}, text{"c"})), 3)
	events := streaming(t, 0, emitAll(
		map[string]any{"text": "a", "index": 1}, map[string]any{"text": "b", "index": 2},
		json.RawMessage(`{"text":"c","text2":"d"}`), json.RawMessage(`{"text":5}`), json.RawMessage(`{"text":{"text":"e"}}`),
		json.RawMessage(` { "text" : "f" } `), json.RawMessage(`{"text":"g\""}`), json.RawMessage(`{"text":"\\"}`),
	))
	var payloads []string
	for _, e := range events {
		payloads = append(payloads, string(e.Payload))
	}
	require.Equal(t, []string{
		`{"index":1,"text":"a"}`, `{"index":2,"text":"b"}`, `{"text":"c","text2":"d"}`, `{"text":5}`, `{"text":{"text":"e"}}`, `{"text":"fg\"\\"}`,
	}, payloads)
}

// FuzzDeltas: however a text is cut into pieces, the deltas put together are the
// pieces put together.
func FuzzDeltas(f *testing.F) {
	f.Add("The quick brown fox", []byte{3, 1, 200, 7}, true)
	f.Add("\"}\\\\\"{\"text\":\"\u2028\x00<&>\U0001F600\\ud83d\\", []byte{1, 1, 1, 1, 1, 1}, false)
	f.Add(strings.Repeat("x\n", 5000), []byte{255, 255, 0}, true)
	f.Fuzz(func(t *testing.T, whole string, cuts []byte, pauses bool) {
		runes := []rune(strings.ToValidUTF8(whole, "?"))
		var want strings.Builder
		events := streaming(t, 0, func(emit webtrigger.Emit) {
			for i := 0; len(runes) > 0; i++ {
				n := len(runes)
				if i < len(cuts) {
					n = min(n, int(cuts[i]))
				}
				piece := string(runes[:n])
				runes = runes[n:]
				require.NoError(t, emit(webtrigger.EventMessageDelta, text{piece}))
				want.WriteString(strings.ReplaceAll(piece, "\x00", "\uFFFD"))
				if pauses {
					time.Sleep(time.Duration(n) * time.Millisecond)
				}
			}
		})
		require.Equal(t, want.String(), strings.Join(texts(t, events), ""))
	})
}
