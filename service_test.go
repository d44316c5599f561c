package webtrigger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
	"github.com/webtrigger-go/webtrigger/webtriggertest"
)

func TestNew_invalidOptions_returnsError(t *testing.T) {
	t.Parallel()
	runner := webtrigger.RunnerFunc(obey)
	_, err := webtrigger.New(nil, runner, nil)
	require.Error(t, err)
	_, err = webtrigger.New(memstore.New(nil), nil, nil)
	require.Error(t, err, "without a Runner nothing can be executed")
	_, err = webtrigger.New((*memstore.Store)(nil), runner, nil)
	require.ErrorContains(t, err, "store must not be nil", "a nil pointer is not a store")
	_, err = webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(nil), nil)
	require.ErrorContains(t, err, "runner must not be nil", "a nil function is not a runner")
	svc, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(nil), &webtrigger.Options{NoWorkers: true})
	require.NoError(t, err)
	require.ErrorContains(t, svc.Execute(t.Context(), 1), "runner", "nor does Execute call it")
	_, err = webtrigger.New(memstore.New(nil), nil, &webtrigger.Options{NoWorkers: true})
	require.NoError(t, err, "NoWorkers needs no Runner")
	for name, opts := range map[string]webtrigger.Options{
		"a relative base":        {BaseURL: "/base"},
		"a base with a query":    {BaseURL: "https://app.example.com/?a=b"},
		"a base with a user":     {BaseURL: "https://me@app.example.com"},
		"a short lease":          {Lease: time.Millisecond},
		"a negative lease":       {Lease: -time.Second},
		"a negative timeout":     {RunTimeout: -1},
		"negative attempts":      {MaxAttempts: -1},
		"negative workers":       {Workers: -1},
		"negative senders":       {Callback: webtrigger.CallbackOptions{Workers: -1}},
		"a negative body limit":  {MaxBodyBytes: -1},
		"a negative rate":        {Limits: webtrigger.Limits{TriggersPerKey: -1}},
		"a negative queue":       {Limits: webtrigger.Limits{QueuedPerAssistant: -1}},
		"a negative window":      {Limits: webtrigger.Limits{Window: -time.Second}},
		"a fraction of a second": {Limits: webtrigger.Limits{Window: 1500 * time.Millisecond}},
		"an invalid range":       {Callback: webtrigger.CallbackOptions{Allow: []netip.Prefix{{}}}},
	} {
		_, err := webtrigger.New(memstore.New(nil), runner, &opts)
		require.Error(t, err, name)
	}
}

// Every method that Store has, or will have, must name itself.
func TestUnimplementedStore_everyMethod_returnsUnsupportedWithItsName(t *testing.T) {
	t.Parallel()
	var store webtrigger.Store = struct{ webtrigger.UnimplementedStore }{}
	contract := reflect.TypeFor[webtrigger.Store]()
	require.Positive(t, contract.NumMethod())
	for method := range contract.Methods() {
		f := reflect.ValueOf(store).MethodByName(method.Name)
		args := make([]reflect.Value, f.Type().NumIn())
		for i := range args {
			args[i] = reflect.Zero(f.Type().In(i))
		}
		results := f.Call(args)
		err, _ := results[len(results)-1].Interface().(error)
		require.ErrorIs(t, err, errors.ErrUnsupported, method.Name)
		require.ErrorContains(t, err, " "+method.Name+":")
		for _, other := range results[:len(results)-1] {
			require.True(t, other.IsZero(), method.Name)
		}
	}
}

// pointers are the places that a RequestError names.
func pointers(t *testing.T, err error) (at []string) {
	t.Helper()
	var refused *webtrigger.RequestError
	require.ErrorAs(t, err, &refused)
	for _, f := range refused.Faults {
		require.NotEmpty(t, f.Detail)
		require.Contains(t, err.Error(), f.Pointer)
		at = append(at, f.Pointer)
	}
	return at
}

func TestKeys(t *testing.T) {
	t.Parallel()
	clock := webtriggertest.NewClock(time.Now())
	b := setupOn(t, memstore.New(&memstore.Options{Clock: clock}), nil, nil)
	key, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Zapier", ExpiresAt: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f]{64}$`, secret)
	require.Equal(t, secret[:8], key.Prefix)

	status := func() int {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/web-triggers/1/status", nil)
		r.Header.Set("Authorization", "Bearer "+secret)
		w := httptest.NewRecorder()
		b.svc.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusNotFound, status(), "the key is good, the trigger absent")
	clock.Advance(2 * time.Hour)
	require.Equal(t, http.StatusUnauthorized, status(), "it has expired by the store's clock")

	_, err = b.svc.ImportKey(b.ctx, "1", webtrigger.KeySpec{Name: "Again"}, secret)
	require.ErrorIs(t, err, webtrigger.ErrConflict)
	_, err = b.svc.ImportKey(b.ctx, "no/slash", webtrigger.KeySpec{Name: " ", ExpiresAt: time.Now().Add(-time.Hour)}, strings.ToUpper(secret))
	require.ElementsMatch(t, []string{"/assistant_id", "/name", "/expires_at", "/key"}, pointers(t, err))
	_, _, err = b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: strings.Repeat("é", 101)})
	require.Equal(t, []string{"/name"}, pointers(t, err))
	_, _, err = b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: strings.Repeat("é", 100)})
	require.NoError(t, err)
	_, err = b.svc.RevokeKey(b.ctx, 4711)
	require.ErrorIs(t, err, webtrigger.ErrNotFound)
}

func TestTaskDefinitionRules(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, &webtrigger.Options{CompileSchema: objectsOnly})
	good := webtrigger.TaskDefinition{AssistantID: "1", Name: "Report", Instructions: "Report."}
	stored, err := b.svc.CreateTaskDefinition(b.ctx, good)
	require.NoError(t, err)
	require.Equal(t, webtrigger.OutputText, stored.OutputType)

	for at, spoil := range map[string]func(*webtrigger.TaskDefinition){
		"/assistant_id":    func(d *webtrigger.TaskDefinition) { d.AssistantID = "" },
		"/name":            func(d *webtrigger.TaskDefinition) { d.Name = "a\x00b" },
		"/instructions":    func(d *webtrigger.TaskDefinition) { d.Instructions = strings.Repeat("x", 50_001) },
		"/output_type":     func(d *webtrigger.TaskDefinition) { d.OutputType = "poem" },
		"/allowed_tools/1": func(d *webtrigger.TaskDefinition) { d.AllowedTools = []string{"a", "a"} },
		"/allowed_tools/0": func(d *webtrigger.TaskDefinition) { d.AllowedTools = []string{" "} },
		"/allowed_tools":   func(d *webtrigger.TaskDefinition) { d.AllowedTools = make([]string, 101) },
		"/output_schema":   func(d *webtrigger.TaskDefinition) { d.OutputSchema = json.RawMessage(`{}`) },
		"/output_schema/a": func(d *webtrigger.TaskDefinition) {
			d.OutputType, d.OutputSchema = webtrigger.OutputJSON, json.RawMessage(`{"a":"\u0000"}`)
		},
	} {
		bad := good
		spoil(&bad)
		_, err := b.svc.CreateTaskDefinition(b.ctx, bad)
		require.Contains(t, pointers(t, err), at)
		if at != "/assistant_id" {
			bad.ID = stored.ID
			_, err = b.svc.UpdateTaskDefinition(b.ctx, bad)
			require.Contains(t, pointers(t, err), at)
		}
	}
	none := setup(t, nil, nil)
	good.OutputType, good.OutputSchema = webtrigger.OutputJSON, json.RawMessage(`{}`)
	_, err = none.svc.CreateTaskDefinition(b.ctx, good)
	require.Equal(t, []string{"/output_schema"}, pointers(t, err), "without CompileSchema, a schema must be rejected, not ignored")
}

func TestTriggerFromGo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	_, err := b.svc.Trigger(b.ctx, "2", webtrigger.TriggerRequest{Message: "x"})
	require.ErrorIs(t, err, webtrigger.ErrChannelDisabled)
	_, err = b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{
		Message: " ", Subject: strings.Repeat("x", 256), Context: json.RawMessage(`[]`), Metadata: json.RawMessage(`x`), TaskDefinitionID: -1,
		CallbackURL: "https://10.0.0.1/",
	})
	require.ElementsMatch(t, []string{"/message", "/subject", "/context", "/metadata", "/task_definition_id", "/callback_url"}, pointers(t, err))
	_, err = b.svc.Trigger(b.ctx, "a/b", webtrigger.TriggerRequest{Message: "x"})
	require.Equal(t, []string{"/assistant_id"}, pointers(t, err))
	_, err = setup(t, nil, &webtrigger.Options{}).svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x"})
	require.ErrorContains(t, err, "BaseURL")

	run := b.trigger("x")
	input, err := b.svc.RunInput(b.ctx, run.ID)
	require.NoError(t, err)
	require.Equal(t, "Web trigger", input.Subject)
}

func TestTrigger_existingConversation_addsRun(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	first, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "say one", Subject: "Lead", Metadata: json.RawMessage(`{"deal": 1}`)})
	require.NoError(t, err)
	require.NoError(t, b.svc.Execute(b.ctx, first.ID))
	second, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "say two", ConversationID: first.ConversationID, Subject: "Other"})
	require.NoError(t, err)
	require.Equal(t, first.ConversationID, second.ConversationID)
	require.NoError(t, b.svc.Execute(b.ctx, second.ID))
	conversation, err := b.svc.Conversation(b.ctx, first.ConversationID)
	require.NoError(t, err)
	require.Equal(t, "Lead", conversation.Subject)
	require.Equal(t, `{"deal": 1}`, string(conversation.Metadata))
	messages, err := b.svc.Messages(b.ctx, webtrigger.MessageQuery{ConversationID: first.ConversationID})
	require.NoError(t, err)
	var said []string
	for _, m := range messages {
		said = append(said, string(m.Role)+": "+m.Content)
	}
	require.Equal(t, []string{"user: say one", "assistant: one", "user: say two", "assistant: two"}, said)

	b.setChannel(webtrigger.Channel{AssistantID: "2", Enabled: true})
	_, err = b.svc.Trigger(b.ctx, "2", webtrigger.TriggerRequest{Message: "x", ConversationID: first.ConversationID})
	require.ErrorIs(t, err, webtrigger.ErrNotFound, "another assistant's conversation is not there")
}

func TestTriggerViaAnotherStoreIsQueuedAndWoken(t *testing.T) {
	wrap := func(s webtrigger.Store) webtrigger.Store { return muteStore{s} }
	bubbleOn(t, wrap, nil, webtrigger.Options{}, func(b *bundle) {
		stop := b.work()
		run, err := b.svc.TriggerVia(b.ctx, b.store, "1", webtrigger.TriggerRequest{Message: "say hi"})
		require.NoError(t, err)
		require.Equal(t, webtrigger.RunQueued, run.Status, "never taken: the host has not committed yet")
		began := time.Now()
		b.svc.Wake()
		synctest.Wait()
		require.Zero(t, time.Since(began))
		require.Equal(t, webtrigger.RunCompleted, b.run(run.ID).Status)
		stop()
	})
}

func TestQueueState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", Workers: 1})
		b.fake = true
		b.trigger("hang")
		b.trigger("hang")
		time.Sleep(3 * time.Second)
		state, err := b.svc.QueueState(b.ctx)
		require.NoError(t, err)
		require.Equal(t, webtrigger.QueueState{Queued: 2, OldestAge: 3 * time.Second}, state)
		defer b.work()()
		state, err = b.svc.QueueState(b.ctx)
		require.NoError(t, err)
		require.Equal(t, webtrigger.QueueState{Queued: 1, Running: 1, OldestAge: 3 * time.Second}, state)
	})
}

func TestRetention(t *testing.T) {
	keep := webtrigger.Retention{Events: time.Hour, Completed: 3 * time.Hour, Failed: 6 * time.Hour}
	bubble(t, nil, webtrigger.Options{Retention: keep}, func(b *bundle) {
		stop := b.work()
		done, failed := b.trigger("say done"), b.trigger("fail")
		synctest.Wait()
		events := func(run webtrigger.Run) webtrigger.EventPage {
			page, err := b.store.Events(b.ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, Limit: 100})
			require.NoError(t, err)
			return page
		}

		time.Sleep(50 * time.Minute)
		require.NotEmpty(t, events(done).Events, "younger than its age")
		time.Sleep(30 * time.Minute)
		require.Empty(t, events(done).Events)
		require.Equal(t, events(done).LastID, events(done).PurgedTo)
		require.Equal(t, webtrigger.RunCompleted, b.run(done.ID).Status, "the run stays")

		time.Sleep(3 * time.Hour)
		_, err := b.svc.RunByID(b.ctx, done.ID)
		require.ErrorIs(t, err, webtrigger.ErrNotFound)
		require.Equal(t, webtrigger.RunFailed, b.run(failed.ID).Status, "its state is kept longer")
		time.Sleep(3 * time.Hour)
		_, err = b.svc.RunByID(b.ctx, failed.ID)
		require.ErrorIs(t, err, webtrigger.ErrNotFound)
		stop()
	})
}

func TestRetention_notSet_keepsRuns(t *testing.T) {
	bubble(t, nil, webtrigger.Options{}, func(b *bundle) {
		stop := b.work()
		done := b.trigger("say done")
		time.Sleep(3 * time.Hour)
		require.Equal(t, webtrigger.RunCompleted, b.run(done.ID).Status)
		stop()
	})
}

func TestRetention_negativeAge_returnsError(t *testing.T) {
	t.Parallel()
	for _, keep := range []webtrigger.Retention{{Events: -1}, {Completed: -1}, {Failed: -1}, {Cancelled: -1}, {TimedOut: -1}} {
		_, err := webtrigger.New(memstore.New(nil), nil, &webtrigger.Options{NoWorkers: true, Retention: keep})
		require.ErrorContains(t, err, "Retention")
	}
}

func TestEraseTrigger(t *testing.T) {
	bubble(t, nil, webtrigger.Options{Workers: 1}, func(b *bundle) {
		stop := b.work()
		hangs := b.trigger("hang")
		require.ErrorIs(t, b.svc.EraseTrigger(b.ctx, hangs.ConversationID), webtrigger.ErrConflict)
		_, err := b.svc.CancelRun(b.ctx, hangs.ID, "")
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, b.svc.EraseTrigger(b.ctx, hangs.ConversationID))
		require.ErrorIs(t, b.svc.EraseTrigger(b.ctx, hangs.ConversationID), webtrigger.ErrNotFound)

		req := httptest.NewRequest(http.MethodGet, hangs.StatusURL(), nil)
		_, key, err := b.svc.CreateKey(b.ctx, hangs.AssistantID, webtrigger.KeySpec{Name: "key"})
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		rec := httptest.NewRecorder()
		b.svc.ServeHTTP(rec, req)
		require.Equal(t, http.StatusNotFound, rec.Code)
		stop()
	})
}

const module = "github.com/webtrigger-go/webtrigger"

// The root package uses only the standard library, google/uuid, the guard's
// address tables and its own internal packages.
func TestRootDependencies(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	require.NoError(t, err)
	for path := range strings.FieldsSeq(string(out)) {
		ours := path == module || strings.HasPrefix(path, module+"/internal/")
		require.True(t, ours || path == "github.com/google/uuid" || path == "code.dny.dev/ssrf", "the root package reaches %s", path)
	}
}

// Adapters and handlers use the root, and not each other.
func TestLayers(t *testing.T) {
	t.Parallel()
	for _, layer := range []string{"store/memstore", "store/bunstore", "admin", "llm"} {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./"+layer).Output()
		require.NoError(t, err)
		for path := range strings.FieldsSeq(string(out)) {
			rest, ok := strings.CutPrefix(path, module)
			allowed := rest == "" || strings.HasPrefix(rest, "/internal/") || rest == "/"+layer ||
				strings.HasPrefix(rest, "/"+layer+"/internal/") || strings.HasPrefix(layer, "store/") && strings.HasPrefix(rest, "/store/internal/")
			require.True(t, !ok || allowed, "%s reaches %s", layer, path)
		}
	}
}

// A host that imports the root and memstore gets neither an ORM nor a vendor's
// SDK nor a test library in its go.mod.
func TestHostModule(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	require.NoError(t, err)
	host := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(host, name), []byte(text), 0o644))
	}
	write("go.mod", "module example.com/host\n\ngo 1.26\n\nrequire "+module+" v0.0.0\n\nreplace "+module+" => "+here+"\n")
	write("main.go", `package main

import (
	"`+module+`"
	"`+module+`/store/memstore"
)

func main() { _, _ = webtrigger.New(memstore.New(nil), nil, &webtrigger.Options{NoWorkers: true}) }
`)
	run := func(args ...string) {
		cmd := exec.Command("go", args...)
		cmd.Dir = host
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS="+os.Getenv("GOFLAGS")+" -mod=mod")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	run("mod", "tidy")
	run("build", "-o", filepath.Join(host, "host"), ".")
	tidied, err := os.ReadFile(filepath.Join(host, "go.mod"))
	require.NoError(t, err)
	_, required, _ := strings.Cut(string(tidied), "require")
	for line := range strings.Lines(required) {
		path, _, ok := strings.Cut(strings.TrimSpace(line), " v")
		if !ok || strings.Contains(line, "=>") {
			continue
		}
		path = strings.TrimPrefix(path, "require ")
		require.Contains(t, []string{module, "github.com/google/uuid", "code.dny.dev/ssrf"}, strings.TrimPrefix(path, "("), "in the host's go.mod")
	}
}

// The client needs nothing but the standard library and the signature scheme.
func TestClientDependencies(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./client").Output()
	require.NoError(t, err)
	for path := range strings.FieldsSeq(string(out)) {
		require.True(t, path == module+"/client" || strings.HasPrefix(path, module+"/internal/"), "client reaches %s", path)
	}
}

func TestTrigger_withoutWorker_logsRemedyOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		worker bool
		lines  int
	}{
		{"no process executes runs", false, 1},
		{"another process executes runs", true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				store := memstore.New(nil)
				front, err := webtrigger.New(store, webtrigger.RunnerFunc(hang), &webtrigger.Options{
					BaseURL: "https://app.example.com", Logger: slog.New(slog.NewTextHandler(&log, nil))})
				require.NoError(t, err)
				require.NoError(t, front.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
				if c.worker {
					other, err := webtrigger.New(store, webtrigger.RunnerFunc(hang), &webtrigger.Options{Workers: 1, DrainTimeout: time.Nanosecond})
					require.NoError(t, err)
					ctx, stop := context.WithCancel(t.Context())
					worked := make(chan error, 1)
					go func() { worked <- other.Work(ctx) }()
					defer func() { stop(); require.NoError(t, <-worked) }()
				}
				for range 4 {
					_, err = front.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "x"})
					require.NoError(t, err)
					time.Sleep(45 * time.Second)
				}
				synctest.Wait()
				require.Equal(t, c.lines, strings.Count(log.String(), "no process executes runs"), log.String())
			})
		})
	}
}

// hang returns when its context ends.
func hang(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestEmit_mistakes_logsRemedyOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		runner := func(_ context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
			for range 3 {
				_ = emit("thinking", nil)
				_ = emit(webtrigger.EventMessageDelta, map[string]string{"delta": "hello"})
				_ = emit(webtrigger.EventMessageDelta, map[string]any{"text": "hello", "index": 1})
			}
			return &webtrigger.Result{Text: "x"}, nil
		}
		svc, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(runner), &webtrigger.Options{
			BaseURL: "https://app.example.com", Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
		run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "x"})
		require.NoError(t, err)
		require.NoError(t, svc.Execute(t.Context(), run.ID))
		require.Equal(t, 1, strings.Count(log.String(), `msg="event rejected"`), log.String())
		require.Contains(t, log.String(), "thinking")
		require.Equal(t, 1, strings.Count(log.String(), `msg="message_delta without text"`), log.String())
	})
}

func TestEventsHandler_timeoutHandler_logsTypeAndRemedy(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	svc, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(hang), &webtrigger.Options{
		BaseURL: "https://app.example.com", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "x"})
	require.NoError(t, err)
	defer svc.CloseStreams()
	handler := http.TimeoutHandler(svc.Handler(func(*http.Request, webtrigger.Access) error { return nil }), time.Minute, "")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, run.EventsURL(), nil))
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Contains(t, log.String(), "*http.timeoutWriter cannot flush: serve event streams outside of http.TimeoutHandler")
}

func TestServe_contextEnds_endsWaitsAndStreamsThenDrains(t *testing.T) {
	t.Parallel()
	started, finish := make(chan struct{}), make(chan struct{})
	runner := func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
		close(started)
		<-finish
		return &webtrigger.Result{Text: "done"}, nil
	}
	svc, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(runner), nil)
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	_, plaintext, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "test"})
	require.NoError(t, err)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	server := &http.Server{Addr: addr, Handler: svc.Handler(func(*http.Request, webtrigger.Access) error { return nil })}
	go func() { served <- svc.Serve(ctx, server) }()

	client := &http.Client{Transport: new(http.Transport)}
	defer client.CloseIdleConnections()
	request := func(method, path, prefer, body string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+plaintext)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Prefer", prefer)
		return client.Do(r)
	}
	var accepted *http.Response
	require.Eventually(t, func() bool { // until the server listens
		accepted, err = request(http.MethodPost, "/api/v1/assistants/1/web-trigger", "", `{"message":"x"}`)
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, accepted.Body.Close())
	<-started
	stream, err := request(http.MethodGet, "/conversations/1/agent-events", "", "")
	require.NoError(t, err)
	defer stream.Body.Close()
	waited := make(chan int, 1)
	go func() {
		response, err := request(http.MethodGet, "/api/v1/web-triggers/1/status", "wait=60", "")
		if err != nil {
			waited <- 0
			return
		}
		response.Body.Close()
		waited <- response.StatusCode
	}()
	stop()
	_, err = io.ReadAll(stream.Body) // the stream ends
	require.NoError(t, err)
	<-waited // and the wait, whether or not it had reached the server
	select {
	case err := <-served:
		t.Fatalf("Serve must wait for the run to drain: %v", err)
	case <-time.After(300 * time.Millisecond): // longer than the server takes to shut down
	}
	close(finish)
	require.NoError(t, <-served)
	run, err := svc.RunByID(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunCompleted, run.Status, "the drain must store the result")
}

func TestServe_addressInUse_returnsErrorAndExecutesNothing(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	svc, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(hang), nil)
	require.NoError(t, err)
	require.ErrorContains(t, svc.Serve(t.Context(), &http.Server{Addr: taken.Addr().String(), Handler: svc}), "address already in use")
}

func TestServe_secondWork_returnsConflict(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	runner := func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
		close(started)
		return hang(ctx, task, emit)
	}
	svc, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(runner), &webtrigger.Options{BaseURL: "https://app.example.com", DrainTimeout: -1})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	_, err = svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "x"})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(ctx) }()
	<-started
	require.ErrorIs(t, svc.Serve(t.Context(), &http.Server{Addr: "127.0.0.1:0", Handler: svc}), webtrigger.ErrConflict)
	stop()
	require.NoError(t, <-worked)
}

// brokenPurge returns an error with each result of the second page.
type brokenPurge struct {
	webtrigger.Store
	began time.Time
	after []int64
	at    []time.Duration
}

func (s *brokenPurge) Purge(_ context.Context, purge webtrigger.Purge) (webtrigger.Purged, error) {
	s.after, s.at = append(s.after, purge.After), append(s.at, time.Since(s.began))
	switch len(s.after) {
	case 1:
		return webtrigger.Purged{Next: 7}, nil
	case 2, 3, 4:
		return webtrigger.Purged{Next: 7}, webtrigger.ErrUnavailable
	case 5:
		return webtrigger.Purged{Next: 9}, errors.New("run 8: broken")
	}
	return webtrigger.Purged{}, nil
}

// After an error the pass continues at its cursor, later each time. Passes begin at
// irregular times.
func TestPurge_storeFails_passContinuesAtItsCursor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &brokenPurge{Store: memstore.New(nil), began: time.Now()}
		b := setupOn(t, store, nil, &webtrigger.Options{
			BaseURL: "https://app.example.com", Retention: webtrigger.Retention{Completed: time.Hour},
		})
		b.fake = true
		stop := b.work()
		time.Sleep(11 * time.Minute)
		stop()
		require.Equal(t, []int64{0, 7, 7, 7, 7, 9}, store.after[:6])
		require.LessOrEqual(t, store.at[0], time.Minute)
		for i, most := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second} {
			pause := store.at[i+2] - store.at[i+1]
			require.LessOrEqual(t, pause, most)
			require.GreaterOrEqual(t, pause, most/2)
		}
	})
}

// countedPurge reports what each call of a pass has deleted.
type countedPurge struct {
	webtrigger.Store
	calls []webtrigger.Purge
}

func (s *countedPurge) Purge(_ context.Context, purge webtrigger.Purge) (webtrigger.Purged, error) {
	s.calls = append(s.calls, purge)
	if len(s.calls) > 2 {
		return webtrigger.Purged{}, nil
	}
	return webtrigger.Purged{Triggers: 2, Events: 3, AuditEntries: 5, StatsHours: 7, Next: int64(2 - len(s.calls))}, nil
}

// Old statistics are purged also if the host keeps everything else, and the store has the
// sum of a pass.
func TestPurge_noRetention_purgesStatisticsAndRecordsPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &countedPurge{Store: memstore.New(nil)}
		b := setupOn(t, store, nil, nil)
		b.fake = true
		stop := b.work()
		time.Sleep(21 * time.Minute)
		stop()
		require.GreaterOrEqual(t, len(store.calls), 3)
		require.Equal(t, webtrigger.Purge{Stats: webtrigger.StatsAge, After: 1, Limit: store.calls[0].Limit}, store.calls[1])
		state, err := b.svc.DataState(b.ctx)
		require.NoError(t, err)
		require.Equal(t, webtrigger.Purged{Triggers: 4, Events: 6, AuditEntries: 10, StatsHours: 14}, state.Deleted)
		require.True(t, state.PassedAt.After(state.DeletedAt))
		require.Zero(t, b.svc.Retention())
	})
}

func TestHistory(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	run := b.trigger("say hello")
	_, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "more", ConversationID: run.ConversationID})
	require.NoError(t, err)

	conversation, err := b.svc.Conversation(b.ctx, run.ConversationID)
	require.NoError(t, err)
	require.Equal(t, "Web trigger", conversation.Subject)
	messages, err := b.svc.Messages(b.ctx, webtrigger.MessageQuery{ConversationID: run.ConversationID})
	require.NoError(t, err)
	require.Len(t, messages, 2, "no limit is the default one")
	rest, err := b.svc.Messages(b.ctx, webtrigger.MessageQuery{ConversationID: run.ConversationID, After: messages[0].ID, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, messages[1:], rest)

	for _, query := range []webtrigger.RunQuery{{AssistantID: "a\x00"}, {Statuses: []webtrigger.RunStatus{"done"}}} {
		runs, err := b.svc.Runs(b.ctx, query)
		require.NoError(t, err)
		require.Empty(t, runs)
	}
	runs, err := b.svc.Runs(b.ctx, webtrigger.RunQuery{AssistantID: "1", Statuses: []webtrigger.RunStatus{webtrigger.RunQueued}})
	require.NoError(t, err)
	require.Len(t, runs, 2)
}

func TestCancelRunFromGo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	run := b.trigger("say hello")
	for _, reason := range []string{"a\x00", "\xff", strings.Repeat("é", webtrigger.MaxCancelReasonRunes+1)} {
		_, err := b.svc.CancelRun(b.ctx, run.ID, reason)
		var refused *webtrigger.RequestError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "/reason", refused.Faults[0].Pointer)
	}
	require.Equal(t, webtrigger.RunQueued, b.run(run.ID).Status)

	cancelled, err := b.svc.CancelRun(b.ctx, run.ID, " \n")
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunCancelled, cancelled.Status)
	require.Empty(t, cancelled.StatusDetail)
	require.Equal(t, []string{"run_queued", "cancel_requested", "run_cancelled"}, b.events(run))

	_, err = b.svc.CancelRun(b.ctx, run.ID+1, "")
	require.ErrorIs(t, err, webtrigger.ErrNotFound)
}

func TestDecodeResult(t *testing.T) {
	t.Parallel()
	completed := func(result string) *webtrigger.Run {
		return &webtrigger.Run{Status: webtrigger.RunCompleted, Result: result}
	}
	var sum struct{ Total int64 }
	require.NoError(t, completed(` {"total": 9007199254740993} `).DecodeResult(&sum))
	require.EqualValues(t, 9007199254740993, sum.Total)

	var anything any
	require.NoError(t, completed(`{"total": [1e400, null]}`).DecodeResult(&anything))
	require.Equal(t, map[string]any{"total": []any{json.Number("1e400"), nil}}, anything)

	for _, text := range []string{"", "It is done.", `{"total": 1} and more`, `{"total": 1}{}`, `{"total"`} {
		require.ErrorContains(t, completed(text).DecodeResult(&anything), "result is not JSON", text)
	}
	require.ErrorContains(t, completed(`{"total": "many"}`).DecodeResult(&sum), "int64")
	running := &webtrigger.Run{Status: webtrigger.RunRunning}
	require.ErrorContains(t, running.DecodeResult(&anything), "the run is running")
}
