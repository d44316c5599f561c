package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The rules for a server without flags.
func TestDefaults(t *testing.T) {
	t.Parallel()
	s := startWith(t, nil)
	require.Contains(t, s.Stdout.String(), "the SQLite file webtrigger.db")
	require.FileExists(t, filepath.Join(s.Cmd.Dir, "webtrigger.db"))
	for name, test := range map[string]func(t *testing.T, s *server){
		"printed curl line":           testPrintedCurlLine,
		"stream":                      testStream,
		"home page":                   testHomePage,
		"unknown paths":               testUnknownPaths,
		"wrong methods":               testWrongMethods,
		"watch page":                  testWatchPage,
		"streamed text is the result": testStreamedTextIsTheResult,
		"stream asks for the session": testStreamAsksForTheSession,
		"task with output schema":     testTaskWithOutputSchema,
		"recipes":                     testRecipes,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s.in(t))
		})
	}
}

func testPrintedCurlLine(t *testing.T, s *server) {
	var body string
	if _, err := exec.LookPath("curl"); err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", s.curl+" -w '\n%{http_code}'")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		require.NoError(t, err, stderr.String())
		answer, code, _ := strings.Cut(string(out), "\n")
		require.Equal(t, "202", code, answer)
		body = answer
	} else {
		resp := s.post(map[string]any{"message": "What can you do?"})
		require.Equal(t, http.StatusAccepted, resp.Status)
		body = resp.Body
	}
	a := s.readAccepted(body)
	require.Contains(t, []any{"processing", "completed"}, s.status(a)["status"])
	status := s.ended(a)
	require.Equal(t, "completed", status["status"])
	require.Equal(t, "You said: What can you do?", status["result"])
	require.Nil(t, status["error_message"])
	require.NotNil(t, status["completed_at"])
}

func TestAnnouncement(t *testing.T) {
	t.Parallel()
	password, key := "sesame-9173", strings.Repeat("ab", 32)
	s := start(t, "-admin-password", password, "-key", key, "-callback-allow", "10.0.0.0/8", "-allow-callbacks=false")
	require.Equal(t, password, s.password)
	require.Equal(t, key, s.key)
	out := s.Stdout.String()
	require.Contains(t, out, "10.0.0.0/8")
	require.Contains(t, out, s.url+"/admin")
	s.say("/say hello")
	resp := s.post(map[string]any{"message": "x", "callback_url": "https://example.com/"})
	require.Equal(t, http.StatusUnprocessableEntity, resp.Status)
}

func testStream(t *testing.T, s *server) {
	a := s.say("/sleep 300ms\n/emit 2\n/tool calculator {\"expression\":\"6*7\"}\n/stream 1\n/sleep 200ms\n/stream 1\n/say done")
	events := s.events(a)
	require.Equal(t, []string{
		"run_queued", "run_started", "x_step", "x_step", "model_completed", "tool_started", "tool_completed",
		"message_delta", "message_delta", "model_completed", "message_completed", "run_completed",
	}, types(events))
	require.Equal(t, map[string]any{"status": "completed", "status_detail": nil, "error_message": nil}, events[11].Payload)
	require.Equal(t, "42", events[6].Payload["result"])

	last := fmt.Sprint(events[len(events)-1].ID)
	resp := s.do(http.MethodGet, a.EventsURL, "", s.basic, header("Last-Event-ID", last))
	require.Equal(t, http.StatusNoContent, resp.Status)
	require.Empty(t, resp.Body)

	middle := s.open(http.MethodGet, a.EventsURL, "", s.basic, header("Last-Event-ID", fmt.Sprint(events[3].ID)))
	defer middle.Body.Close()
	require.Equal(t, events[4:], readEvents(t, middle.Body))
}

func testWatchPage(t *testing.T, s *server) {
	page := s.do(http.MethodGet, "/watch/?conversation=1", "")
	require.Equal(t, http.StatusOK, page.Status)
	require.Contains(t, page.Body, "watch.js")
	require.Contains(t, page.Header.Get("Content-Security-Policy"), "default-src 'none'")
	script := s.do(http.MethodGet, "/watch/watch.js", "")
	require.Equal(t, http.StatusOK, script.Status)
	require.Contains(t, script.Body, "new EventSource")
}

func testStreamedTextIsTheResult(t *testing.T, s *server) {
	a := s.say("/stream 100")
	var text strings.Builder
	deltas := 0
	for _, e := range s.events(a) {
		if e.Type == "message_delta" {
			text.WriteString(e.Payload["text"].(string))
			deltas++
		}
	}
	require.Equal(t, s.ended(a)["result"], text.String())
	require.Positive(t, deltas)
	require.Less(t, deltas, 100, "pieces that come at once are one event")
}

func testStreamAsksForTheSession(t *testing.T, s *server) {
	a := s.say("/say hello")
	s.ended(a)
	get := func(edits ...func(*http.Request)) int {
		return s.do(http.MethodGet, a.EventsURL, "", edits...).Status
	}
	require.Equal(t, http.StatusUnauthorized, get())
	require.Equal(t, http.StatusUnauthorized, get(bearer(s.key)), "an API key opens nothing here")
	require.Equal(t, http.StatusUnauthorized, get(header("Cookie", "webtrigger_session=guessed")))
	require.Equal(t, http.StatusUnauthorized, get(func(r *http.Request) { r.SetBasicAuth("admin", "wrong") }))
	require.Equal(t, http.StatusUnauthorized, get(func(r *http.Request) { r.SetBasicAuth("root", s.password) }))
	require.Equal(t, http.StatusOK, get(s.basic))

	login := func(password string, edits ...func(*http.Request)) response {
		form := url.Values{"username": {"admin"}, "password": {password}}
		edits = append(edits, header("Content-Type", "application/x-www-form-urlencoded"))
		return s.do(http.MethodPost, "/login", form.Encode(), edits...)
	}
	refused := login("wrong")
	require.Equal(t, http.StatusUnauthorized, refused.Status)
	require.Empty(t, refused.Header.Values("Set-Cookie"))
	require.Equal(t, http.StatusForbidden, login(s.password, header("Sec-Fetch-Site", "cross-site")).Status)

	let := login(s.password)
	require.Equal(t, http.StatusSeeOther, let.Status, let.Body)
	cookie, err := http.ParseSetCookie(let.Header.Get("Set-Cookie"))
	require.NoError(t, err)
	require.True(t, cookie.HttpOnly)
	s.hush.add(cookie.Value)
	session := func(r *http.Request) { r.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value}) }
	require.Equal(t, http.StatusOK, get(session))
	require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/admin/api/runs", "", session).Status)
	require.Equal(t, http.StatusUnauthorized, s.do(http.MethodGet, "/admin/api/runs", "").Status)

	s.do(http.MethodPost, "/logout", "", session)
	require.Equal(t, http.StatusUnauthorized, get(session))
}

func TestEnds(t *testing.T) {
	t.Parallel()
	s := start(t, "-run-timeout", "2s")
	for _, tt := range []struct {
		name, message, state string
		cancel               bool
		detail, text         any
	}{
		{"fail", "/fail the mailbox is full", "failed", false, nil, "the mailbox is full"},
		{"panic", "/panic", "failed", false, nil, "The assistant crashed."},
		{"deadline", "/hang", "timed_out", false, "deadline exceeded", "The run was stopped because it took longer than allowed."},
		{"cancel", "/hang", "cancelled", true, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			a := s.say(tt.message)
			if tt.cancel {
				s.until(a, "running")
				path := fmt.Sprintf("/admin/api/runs/%d/cancel", a.RunID)
				require.Equal(t, http.StatusUnauthorized, s.do(http.MethodPost, path, "").Status)
				resp := s.do(http.MethodPost, path, "", s.basic)
				require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, resp.Status, resp.Body)
			}
			status := s.ended(a)
			require.Equal(t, "failed", status["status"])
			require.Equal(t, tt.state, status["run_status"])
			require.Equal(t, tt.detail, status["status_detail"])
			require.Equal(t, tt.text, status["error_message"])
			require.Nil(t, status["result"])
			events := s.events(a)
			last := events[len(events)-1]
			require.Equal(t, "run_"+tt.state, last.Type)
			require.Equal(t, map[string]any{"status": tt.state, "status_detail": tt.detail, "error_message": tt.text}, last.Payload)
		})
	}
	t.Run("afterwards", func(t *testing.T) { // a panic must not affect other requests
		s.ended(s.say("/say still here"))
	})
}

func TestKeysOfTwoAssistants(t *testing.T) {
	t.Parallel()
	key2 := strings.Repeat("0123456789abcdef", 4)
	s := start(t, "-key2", key2)
	s.hush.add(key2)
	a := s.say("/say private")
	s.ended(a)
	foreign := s.do(http.MethodGet, a.StatusURL, "", bearer(key2))
	absent := s.do(http.MethodGet, "/api/v1/web-triggers/999999/status", "", bearer(key2))
	require.Equal(t, http.StatusNotFound, foreign.Status)
	require.Equal(t, http.StatusNotFound, absent.Status)
	require.Equal(t, absent.Body, foreign.Body)
	for _, h := range []http.Header{foreign.Header, absent.Header} {
		h.Del("X-Request-Id")
		h.Del("Date")
	}
	require.Equal(t, absent.Header, foreign.Header)

	body := `{"message": "/say mine"}`
	require.Equal(t, http.StatusForbidden, s.do(http.MethodPost, "/api/v1/assistants/1/web-trigger", body, bearer(key2)).Status)
	require.Equal(t, http.StatusAccepted, s.do(http.MethodPost, "/api/v1/assistants/2/web-trigger", body, bearer(key2)).Status)
	require.Equal(t, http.StatusUnauthorized, s.do(http.MethodPost, "/api/v1/assistants/1/web-trigger", body).Status)
}

func testTaskWithOutputSchema(t *testing.T, s *server) {
	const definition = `{"name": "Count", "instructions": "Count.", "output_type": "json",
		"output_schema": {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}, "active": true}`
	resp := s.do(http.MethodPost, "/admin/api/assistants/1/tasks", definition, s.basic)
	require.Equal(t, http.StatusCreated, resp.Status, resp.Body)
	id := resp.decode(t)["id"]

	for _, tt := range []struct{ answer, want string }{
		{`{"total": "many"}`, "The result does not meet the task definition's schema: at /total: type: must be integer"},
		{`many`, "The result is not valid JSON, which the task definition asks for. Malformed JSON at offset 0: a value is expected."},
	} {
		status := s.ended(s.trigger(map[string]any{"message": "/say " + tt.answer, "task_definition_id": id}))
		require.Equal(t, "failed", status["run_status"])
		require.Equal(t, tt.want, status["error_message"])
	}
	status := s.ended(s.trigger(map[string]any{"message": `/say {"total": 3}`, "task_definition_id": id}))
	require.Equal(t, `{"total": 3}`, status["result"])

	refused := s.do(http.MethodPost, "/admin/api/assistants/1/tasks",
		strings.Replace(definition, `"type": "integer"`, `"$ref": "#/none"`, 1), s.basic)
	require.Equal(t, http.StatusUnprocessableEntity, refused.Status, refused.Body)
	require.Contains(t, refused.Body, "/output_schema")
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := start(t, "-workers", "0")
	require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/healthz", "").Status)
	require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/api/v1/openapi.json", "").Status)
	require.Equal(t, "queued", s.status(s.say("/say never"))["run_status"])
}

func TestSIGTERMDrains(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s := startWith(t, nil, r.flags()...) // on the default database
	a := s.trigger(map[string]any{"message": "/sleep 1s\n/say drained", "callback_url": r.url("/hook")})
	s.until(a, "running")
	stream := s.open(http.MethodGet, a.EventsURL, "", s.basic)
	defer stream.Body.Close()
	require.Equal(t, http.StatusOK, stream.StatusCode)

	require.NoError(t, s.Cmd.Process.Signal(syscall.SIGTERM))
	events := readEvents(t, stream.Body)
	require.Equal(t, []string{"run_queued", "run_started"}, types(events), "the stream ends, and does not wait for the run")
	select {
	case <-s.Exited:
	case <-time.After(patience):
		t.Fatal("the server does not end")
	}
	require.Zero(t, s.Cmd.ProcessState.ExitCode(), s.Stderr.String())
	got := r.received()
	require.Len(t, got, 1)
	require.Equal(t, "completed", got[0].body["status"])
	require.Equal(t, "drained", got[0].body["result_text"])
}

func TestSIGTERMInterruptsWhatDoesNotDrain(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s := start(t, append(r.flags(), "-drain", "200ms")...)
	s.until(s.trigger(map[string]any{"message": "/hang", "callback_url": r.url("/hook")}), "running")
	require.NoError(t, s.Cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.Exited:
	case <-time.After(patience):
		t.Fatal("the server does not end")
	}
	require.Zero(t, s.Cmd.ProcessState.ExitCode(), s.Stderr.String())
	got := r.received()
	require.Len(t, got, 1)
	require.Equal(t, "failed", got[0].body["status"])
	require.Equal(t, "interrupted by shutdown", got[0].body["status_detail"])
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, "-drain", "10m")
	s.until(s.say("/hang"), "running")
	require.NoError(t, s.Cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return strings.Contains(s.Stderr.String(), "shutting down") }, patience, 5*time.Millisecond)
	require.NoError(t, s.Cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.Exited:
	case <-time.After(patience):
		t.Fatal("the server does not end")
	}
	require.False(t, s.Cmd.ProcessState.Success())
}

// A malformed key ends the start. It is not in the error.
func TestBadKeys(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"-key", "-key2"} {
		key := strings.Repeat("BAD5EC", 10)
		cmd := command(t, "-addr", "127.0.0.1:0", flag, key)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		require.NoError(t, cmd.Start())
		impatient := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		impatient.Stop()
		require.Positive(t, cmd.ProcessState.ExitCode())
		require.Contains(t, stderr.String(), flag+": ")
		require.Contains(t, stderr.String(), "64 lowercase hex")
		require.NotContains(t, stderr.String(), key)
		require.Empty(t, stdout.String())
	}
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		flags []string
		want  string
		never string // must not be in the output
	}{
		{"no database", []string{"-db", "mysql://u:hush@127.0.0.1/x"}, "-db: must be memory, sqlite:FILE or postgres://", "hush"},
		{"no SQLite file", []string{"-db", "sqlite:"}, "-db: must be memory", ""},
		{"postgres URL", []string{"-db", "postgres://u:hu%sh@127.0.0.1/x"}, "-db: malformed postgres URL", "sh@"},
		{"postgres option", []string{"-db", "postgres://u:hush@127.0.0.1/x?sslmode=hush"}, "-db: the driver rejects", "hush"},
		{"callback secret", []string{"-callback-secret", "whsec_aHVzaA"}, "-callback-secret: a signing secret is whsec_", "aHVzaA"},
		{"CIDR", []string{"-callback-allow", "10.0.0.0"}, `"10.0.0.0" is not a CIDR`, ""},
		{"no file", []string{"-callback-ca", "absent.pem"}, "-callback-ca", ""},
		{"workers", []string{"-workers", "-1"}, "-workers", ""},
		{"attempts", []string{"-max-attempts", "0"}, "-max-attempts", ""},
		{"timeout", []string{"-run-timeout", "0s"}, "-run-timeout", ""},
		{"duration", []string{"-lease", "soon"}, "-lease", ""},
		{"unknown", []string{"-colour", "red"}, "-colour", ""},
		{"instructions", []string{"-instructions", "@absent.txt"}, "-instructions: open absent.txt", ""},
		{"no MCP server", []string{"-mcp", "notes="}, "-mcp: must be a URL or a command", ""},
		{"MCP URL", []string{"-mcp", "https://u:hush@127.0.0.1:x/"}, "-mcp: URL is malformed", "hush"},
		{"argument", []string{"start"}, `unexpected argument "start"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := command(t, append([]string{"-addr", "127.0.0.1:0"}, tt.flags...)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			require.NoError(t, cmd.Start())
			impatient := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
			defer impatient.Stop()
			_ = cmd.Wait()
			require.Equal(t, 2, cmd.ProcessState.ExitCode(), stderr.String())
			require.Contains(t, stderr.String(), tt.want)
			require.Empty(t, stdout.String())
			if tt.never != "" {
				require.NotContains(t, stderr.String(), tt.never)
			}
		})
	}
}

func TestCallback(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s := start(t, r.flags()...)
	a := s.trigger(map[string]any{"message": "/say <done> & \"dusted\"", "callback_url": r.url("/hook?a=%zz")})
	status := s.ended(a)
	require.Eventually(t, func() bool { return len(r.received()) > 0 }, patience, 5*time.Millisecond)

	deliveries := func() []any {
		resp := s.do(http.MethodGet, fmt.Sprintf("/admin/api/runs/%d/deliveries", a.RunID), "", s.basic)
		require.Equal(t, http.StatusOK, resp.Status, resp.Body)
		return resp.decode(t)["items"].([]any)
	}
	require.Eventually(t, func() bool {
		d := deliveries()
		return len(d) == 1 && d[0].(map[string]any)["state"] == "delivered"
	}, patience, 20*time.Millisecond)

	require.NoError(t, s.Cmd.Process.Signal(syscall.SIGTERM)) // after the drain nothing can follow
	select {
	case <-s.Exited:
	case <-time.After(patience):
		t.Fatal("the server does not end")
	}
	got := r.received()
	require.Len(t, got, 1)
	require.EqualValues(t, 1, r.connections.Load())
	require.Equal(t, http.MethodPost, got[0].method)
	require.Equal(t, "/hook?a=%zz", got[0].uri, "byte for byte")
	require.Equal(t, "application/json", got[0].header.Get("Content-Type"))
	require.Empty(t, got[0].header.Get("Idempotency-Key"))
	require.Equal(t, map[string]any{
		"run_key": a.RunKey, "status": "completed", "status_detail": nil, "result_text": `<done> & "dusted"`, "error_message": nil,
		"conversation_id": float64(a.TriggerID), "events_url": a.EventsURL, "completed_at": status["completed_at"],
	}, got[0].body, "exactly these eight fields")
}

func TestServer_callbackToPrivateAddress_isRejected(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s := start(t, "-callback-ca", r.caFile) // no -callback-allow
	resp := s.post(map[string]any{"message": "/say x", "callback_url": r.url("/hook?a=%zz")})
	require.Equal(t, http.StatusUnprocessableEntity, resp.Status, resp.Body)
	require.Contains(t, resp.Body, `"/callback_url"`)
	require.NoError(t, s.Cmd.Process.Signal(syscall.SIGTERM))
	<-s.Exited
	require.Zero(t, r.connections.Load())
}

// A receiver whose certificate no known authority has signed gets no request.
func TestCallbackVerifiesTheCertificate(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s := start(t, "-callback-allow", "127.0.0.0/8")
	a := s.trigger(map[string]any{"message": "/say x", "callback_url": r.url("/hook")})
	var state any
	require.Eventually(t, func() bool {
		items := s.do(http.MethodGet, fmt.Sprintf("/admin/api/runs/%d/deliveries", a.RunID), "", s.basic).decode(t)["items"].([]any)
		if len(items) == 0 {
			return false
		}
		state = items[0].(map[string]any)["state"]
		return state != "pending" && state != "sending"
	}, patience, 20*time.Millisecond)
	require.Equal(t, "failed", state)
	require.Empty(t, r.received())
	require.Equal(t, "completed", s.ended(a)["run_status"], "the run's end does not depend on it")
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	s := start(t)
	cmd := command(t, "-addr", strings.TrimPrefix(s.url, "http://"))
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	impatient := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer impatient.Stop()
	said, err := io.ReadAll(stderr)
	require.NoError(t, err)
	_ = cmd.Wait()
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, string(said), "address already in use")
}

func (r *receiver) flags() []string {
	return []string{"-callback-allow", "127.0.0.0/8", "-callback-ca", filepath.Clean(r.caFile)}
}
