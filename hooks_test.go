package webtrigger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

const (
	outerTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	innerTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-aaaaaaaaaaaaaaaa-01"
)

// diary records the calls of hooks.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) write(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.lines...)
}

type spanName struct{}

func (d *diary) hooks() webtrigger.Hooks {
	in := func(ctx context.Context) any { return ctx.Value(spanName{}) }
	return webtrigger.Hooks{
		Request: func(ctx context.Context, info webtrigger.RequestInfo) (context.Context, func(webtrigger.RequestOutcome)) {
			d.write("request %s", info.Route)
			return context.WithValue(ctx, spanName{}, "request"), func(o webtrigger.RequestOutcome) { d.write("answered %d", o.Status) }
		},
		TraceParent: func(ctx context.Context) string {
			if in(ctx) == "request" {
				return innerTrace
			}
			return ""
		},
		Triggered: func(ctx context.Context, info webtrigger.TriggerInfo) {
			d.write("triggered %d %v in %v", info.Run.ID, info.Replayed, in(ctx))
		},
		Run: func(ctx context.Context, info webtrigger.RunInfo) (context.Context, func(webtrigger.RunOutcome)) {
			d.write("run %d %s %s", info.Run.ID, info.Run.Status, info.Run.TraceParent)
			return context.WithValue(ctx, spanName{}, "run"), func(o webtrigger.RunOutcome) { d.write("run over %d %s", o.Run.ID, o.Run.Status) }
		},
		Ended: func(ctx context.Context, info webtrigger.EndedInfo) {
			d.write("ended %d %s in %v", info.Run.ID, info.Run.Status, in(ctx))
		},
		Abandoned: func(_ context.Context, info webtrigger.AbandonedInfo) (context.Context, func(webtrigger.AbandonedOutcome)) {
			d.write("abandoned %d", info.Run.ID)
			return nil, func(webtrigger.AbandonedOutcome) { d.write("returned %d", info.Run.ID) }
		},
		Callback: func(ctx context.Context, info webtrigger.CallbackInfo) (context.Context, func(webtrigger.DeliveryOutcome)) {
			d.write("callback %d of %d", info.Delivery.ID, info.Run.ID)
			return nil, func(o webtrigger.DeliveryOutcome) { d.write("callback %s", o.State) }
		},
		Stream: func(_ context.Context, info webtrigger.StreamInfo) (context.Context, func(webtrigger.StreamOutcome)) {
			d.write("stream %d", info.ConversationID)
			return nil, func(webtrigger.StreamOutcome) { d.write("stream closed") }
		},
	}
}

func TestHooks_trigger_reportEachStep(t *testing.T) {
	t.Parallel()
	url, roots, got := receiver(t, http.StatusOK)
	var d diary
	inRunner := make(chan any, 1)
	b := setup(t, webtrigger.RunnerFunc(func(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		inRunner <- ctx.Value(spanName{})
		return &webtrigger.Result{Text: "done"}, nil
	}), &webtrigger.Options{
		BaseURL: "https://app.example.com", Hooks: d.hooks(),
		Callback: webtrigger.CallbackOptions{Allow: loopback(), RootCAs: roots},
	})
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "k")
		r.Header.Set("traceparent", outerTrace)
		w := httptest.NewRecorder()
		b.svc.ServeHTTP(w, r)
		return w
	}
	body := `{"message":"go","callback_url":"` + url + `"}`
	require.Equal(t, http.StatusAccepted, ask("POST", "/api/v1/assistants/1/web-trigger", body).Code)
	require.Equal(t, http.StatusAccepted, ask("POST", "/api/v1/assistants/1/web-trigger", body).Code)
	require.NoError(t, b.svc.Execute(b.ctx, 1))
	require.Equal(t, "run", <-inRunner)
	stop := b.work()
	cb := <-got
	require.Equal(t, []string{innerTrace}, cb.header["Traceparent"], "the traceparent must be that of the run")
	b.delivered(1)
	stop()
	server := httptest.NewServer(b.svc) // a recorder has no write deadlines
	defer server.Close()
	r, err := http.NewRequest("GET", server.URL+"/api/v1/web-triggers/1/events", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+secret)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode, "streams pass through the writer that remembers the status")
	require.Eventually(t, func() bool { lines := d.read(); return lines[len(lines)-1] == "answered 200" }, time.Minute, time.Millisecond)
	require.Equal(t, http.StatusNotFound, ask("GET", "/nowhere", "").Code)
	require.Equal(t, []string{
		"request /api/v1/assistants/{assistant_id}/web-trigger",
		"triggered 1 false in request",
		"answered 202",
		"request /api/v1/assistants/{assistant_id}/web-trigger",
		"triggered 1 true in request",
		"answered 202",
		"run 1 running " + innerTrace,
		"ended 1 completed in run",
		"run over 1 completed",
		"callback 1 of 1",
		"callback delivered",
		"request /api/v1/web-triggers/{trigger_id}/events",
		"stream 1",
		"stream closed",
		"answered 200",
		"request ",
		"answered 404",
	}, d.read())
}

// The hook is called once for the end of every run, also if no worker ended it.
func TestEndedHook_runEndedWithoutWorker_isCalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		b := setup(t, nil, &webtrigger.Options{
			BaseURL: "https://app.example.com", MaxQueueTime: time.Minute,
			Hooks: webtrigger.Hooks{Ended: d.hooks().Ended, Abandoned: d.hooks().Abandoned},
		})
		b.fake = true
		b.trigger("say x")
		for range 2 {
			_, err := b.svc.CancelRun(b.ctx, 1, "")
			require.NoError(t, err)
		}
		b.trigger("say y")
		time.Sleep(2 * time.Minute) // of the bubble
		require.Equal(t, []string{"ended 1 cancelled in <nil>"}, d.read())
		_, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{
			ProcessID: deadProcess(t, b.store, time.Second, 1), Token: webtrigger.NewToken(), Limit: 1,
		})
		require.NoError(t, err)
		stop := b.work()
		time.Sleep(time.Minute)
		run := b.trigger("ignore")
		time.Sleep(time.Second)
		_, err = b.svc.CancelRun(b.ctx, run.ID, "")
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		stop()
		require.Equal(t, []string{
			"ended 1 cancelled in <nil>", "ended 2 timed_out in <nil>",
			"ended 3 cancelled in <nil>", "abandoned 3", "returned 3",
		}, d.read())
	})
}

// Without hooks a sane traceparent is kept on the run and sent with its callback.
func TestTraceParentIsKeptAndSentOn(t *testing.T) {
	t.Parallel()
	url, roots, got := receiver(t, http.StatusOK)
	b := setup(t, nil, &webtrigger.Options{
		BaseURL: "https://app.example.com", Callback: webtrigger.CallbackOptions{Allow: loopback(), RootCAs: roots},
	})
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	stop := b.work()
	defer stop()
	for i, test := range []struct {
		sent []string
		kept string
	}{
		{nil, ""},
		{[]string{outerTrace}, outerTrace},
		{[]string{outerTrace, innerTrace}, ""},
		{[]string{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"}, ""},
		{[]string{strings.ToUpper(outerTrace)}, ""},
		{[]string{outerTrace + "-more"}, ""},
		{[]string{"ff" + outerTrace[2:]}, ""},
		{[]string{"cc" + outerTrace[2:] + "-more"}, "cc" + outerTrace[2:] + "-more"},
		{[]string{"cc" + outerTrace[2:] + "more"}, ""},
		{[]string{"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01"}, ""},
		{[]string{"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"}, ""},
		{[]string{strings.Replace(outerTrace, "-", "_", 1)}, ""},
	} {
		r := httptest.NewRequest("POST", "/api/v1/assistants/1/web-trigger", strings.NewReader(`{"message":"x","callback_url":"`+url+`"}`))
		r.Header = http.Header{"Authorization": {"Bearer " + secret}, "Content-Type": {"application/json"}, "Traceparent": test.sent}
		w := httptest.NewRecorder()
		b.svc.ServeHTTP(w, r)
		require.Equal(t, http.StatusAccepted, w.Code, w.Body)
		require.Equal(t, test.kept, b.run(int64(i+1)).TraceParent, "%q", test.sent)
		require.Equal(t, test.kept, (<-got).header.Get("traceparent"), "%q", test.sent)
	}
	run, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x", TraceParent: "no\r\nsuch: header"})
	require.NoError(t, err)
	require.Empty(t, run.TraceParent)
}

// records are the log's lines about runs, by their message.
func records(t *testing.T, log *bytes.Buffer) map[string][]map[string]any {
	t.Helper()
	found := make(map[string][]map[string]any)
	for line := range bytes.Lines(log.Bytes()) {
		var record map[string]any
		require.NoError(t, json.Unmarshal(line, &record))
		if record["run_id"] != nil {
			message := record["msg"].(string)
			found[message] = append(found[message], record)
		}
	}
	return found
}

// Whatever a process does for a run that another one has accepted, its log names
// the request that triggered it.
func TestLogNamesTheRequestOnEveryReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		front := setupOn(t, store, nil, nil)
		_, secret, err := front.svc.CreateKey(front.ctx, "1", webtrigger.KeySpec{Name: "Make"})
		require.NoError(t, err)
		post := func(requestID, body string) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, triggerPath, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+secret)
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Request-Id", requestID)
			w := httptest.NewRecorder()
			front.svc.ServeHTTP(w, r)
			require.Equal(t, http.StatusAccepted, w.Code, w.Body)
		}
		post("zap/1", `{"message":"say x","callback_url":"https://93.184.215.14/hook"}`)
		post("zap/2", `{"message":"panic !"}`)
		post("zap/3", `{"message":"say never"}`)
		_, err = store.ClaimRuns(t.Context(), webtrigger.Claim{
			ProcessID: deadProcess(t, store, time.Second, 1), Token: webtrigger.NewToken(), Limit: 1, RunID: 3,
		})
		require.NoError(t, err)

		var log bytes.Buffer
		back := setupOn(t, store, nil, &webtrigger.Options{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
		back.fake = true
		back.svc.StubCallbacks(func() error { return nil }, func([]byte) (int, error) { return http.StatusTeapot, nil })
		stop := back.work()
		time.Sleep(time.Minute)
		stop()
		said := records(t, &log)
		for message, requestID := range map[string]string{
			"run started": "zap/1", "run ended": "zap/1", "callback not delivered": "zap/1",
			"runner panicked": "zap/2", "run swept": "zap/3",
		} {
			require.True(t, slices.ContainsFunc(said[message], func(r map[string]any) bool { return r["request_id"] == requestID }), message)
		}
		for message, list := range said {
			for _, record := range list {
				require.NotEmpty(t, record["run_key"], message)
				require.Equal(t, "zap/"+strconv.Itoa(int(record["run_id"].(float64))), record["request_id"], message)
			}
		}
	})
}

// A trigger from Go carries the host's id, where that is one that a header may
// have.
func TestRequestIDFromGo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	for given, kept := range map[string]string{
		"req-1": "req-1", "": "", "two words": "", "x\n": "", strings.Repeat("a", 128): strings.Repeat("a", 128), strings.Repeat("a", 129): "",
	} {
		run, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x", RequestID: given})
		require.NoError(t, err)
		require.Equal(t, kept, run.RequestID)
		require.Equal(t, kept, b.run(run.ID).RequestID)
	}
}

// logCalls are the functions that log, and their levels. "": its caller chooses one.
var logCalls = map[string]string{
	"Info": "info", "InfoContext": "info", "Warn": "warn", "WarnContext": "warn", "warn": "warn", "Error": "error", "ErrorContext": "error",
	"LogAttrs": "", "once": "",
}

// logMessages returns the log messages in the code of directories, as "level: message".
func logMessages(t *testing.T, directories ...string) (messages []string) {
	t.Helper()
	for _, directory := range directories {
		files, err := filepath.Glob(filepath.Join(directory, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files, directory)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			require.NoError(t, err)
			for node := range ast.Preorder(parsed) {
				call, ok := node.(*ast.CallExpr)
				if !ok {
					continue
				}
				method, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					continue
				}
				level, ok := logCalls[method.Sel.Name]
				if !ok || len(call.Args) == 0 {
					continue
				}
				i := slices.IndexFunc(call.Args, func(argument ast.Expr) bool {
					literal, ok := argument.(*ast.BasicLit)
					return ok && literal.Kind == token.STRING
				})
				if i < 0 {
					require.Empty(t, level, "a log message must be a constant string: %s", file)
					continue // its caller has the message
				}
				text, err := strconv.Unquote(call.Args[i].(*ast.BasicLit).Value)
				require.NoError(t, err)
				messages = append(messages, level+": "+text)
			}
		}
	}
	slices.Sort(messages)
	return slices.Compact(messages)
}

func TestLogMessages_table_listsAllOfTheService(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/operations.md")
	require.NoError(t, err)
	var listed []string
	for _, row := range regexp.MustCompile(`(?m)^\| (info|warn|error) \| (.*) \|$`).FindAllStringSubmatch(string(page), -1) {
		list := regexp.MustCompile(`\. Once [^:]*: | \([^)]*\)`).ReplaceAllStringFunc(row[2], func(note string) string {
			if strings.HasPrefix(note, ".") {
				return ", "
			}
			return ""
		})
		for message := range strings.SplitSeq(list, ", ") {
			listed = append(listed, row[1]+": "+message)
		}
	}
	slices.Sort(listed)
	require.Equal(t, logMessages(t, ".", "internal/stream"), listed, "the table of docs/operations.md must list the log messages of the service")
}

func TestLogMessages_table_listsAllOfTheOtherPackages(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/operations.md")
	require.NoError(t, err)
	var listed []string
	for _, row := range regexp.MustCompile(`(?m)^\|[^|]*\| (info|warn|error) \| (\*.*) \|$`).FindAllStringSubmatch(string(page), -1) {
		for _, message := range regexp.MustCompile(`\*([^*]+)\*`).FindAllStringSubmatch(row[2], -1) {
			listed = append(listed, row[1]+": "+message[1])
		}
	}
	var logged []string
	for _, message := range logMessages(t, "llm", "llm/internal/vendorhttp", "llm/internal/vendortool", "llm/mcptools", "store/bunstore", "client") {
		if text, chosen := strings.CutPrefix(message, ": "); chosen { // take the level from the page
			i := slices.IndexFunc(listed, func(l string) bool { return strings.HasSuffix(l, ": "+text) })
			require.GreaterOrEqual(t, i, 0, "docs/operations.md must list the log message %q", text)
			message = listed[i]
		}
		logged = append(logged, message)
	}
	slices.Sort(listed)
	slices.Sort(logged)
	require.Equal(t, logged, listed, "the second table of docs/operations.md must list the log messages of the other packages")
}

// racingStore ends a run between the two statements of a cancellation.
type racingStore struct {
	webtrigger.Store
	end func()
}

func (s *racingStore) RequestStop(ctx context.Context, runID int64, stop webtrigger.Stop, lease *webtrigger.Lease) (webtrigger.Run, error) {
	if end := s.end; end != nil {
		s.end = nil
		end()
	}
	return s.Store.RequestStop(ctx, runID, stop, lease)
}

func TestHooks_runEndsDuringItsCancellation_endedIsCalledOnce(t *testing.T) {
	t.Parallel()
	for _, message := range []string{"say done", "fail no luck"} {
		var ended atomic.Int64
		store := &racingStore{Store: memstore.New(nil)}
		b := setupOn(t, store, nil, &webtrigger.Options{
			BaseURL: "https://app.example.com",
			Hooks:   webtrigger.Hooks{Ended: func(context.Context, webtrigger.EndedInfo) { ended.Add(1) }},
		})
		run := b.trigger(message)
		store.end = func() { require.NoError(t, b.svc.Execute(b.ctx, run.ID)) }
		run, err := b.svc.CancelRun(b.ctx, run.ID, "")
		require.NoError(t, err)
		require.True(t, run.Status.Terminal())
		require.EqualValues(t, 1, ended.Load())

		run, err = b.svc.CancelRun(b.ctx, b.trigger(message).ID, "")
		require.NoError(t, err)
		require.Equal(t, webtrigger.RunCancelled, run.Status)
		require.EqualValues(t, 2, ended.Load(), "a queued run")
	}
}

// The store does not return the task definition of a run that ends. The hooks get it
// all the same.
func TestHooks_endedRun_hasItsTaskDefinition(t *testing.T) {
	t.Parallel()
	var ended, outcome webtrigger.Run
	b := setupOn(t, memstore.New(nil), nil, &webtrigger.Options{
		BaseURL: "https://app.example.com",
		Hooks: webtrigger.Hooks{
			Ended: func(_ context.Context, info webtrigger.EndedInfo) { ended = info.Run },
			Run: func(ctx context.Context, _ webtrigger.RunInfo) (context.Context, func(webtrigger.RunOutcome)) {
				return ctx, func(o webtrigger.RunOutcome) { outcome = o.Run }
			},
		},
	})
	task, err := b.svc.CreateTaskDefinition(b.ctx, webtrigger.TaskDefinition{AssistantID: "1", Name: "n", Instructions: "i", Active: true})
	require.NoError(t, err)
	run, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "say x", TaskDefinitionID: task.ID})
	require.NoError(t, err)
	require.NoError(t, b.svc.Execute(b.ctx, run.ID))
	for _, got := range []webtrigger.Run{ended, outcome} {
		require.Equal(t, webtrigger.RunCompleted, got.Status)
		require.Equal(t, task.ID, got.TaskDefinitionID)
		require.Equal(t, &task, got.TaskDefinition)
	}
}

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
