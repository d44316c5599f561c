package console_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// The page keeps its position while the server behind a proxy restarts, at which
// EventSource closes, and after a lost connection. It shows the state of the
// connection, and every event once.
func TestWatchPage_serverRestarts_showsEveryEventOnce(t *testing.T) {
	t.Parallel()
	flags := []string{"-db", pgtest.Database(t)}
	serve(t, flags...) // it executes the run
	flags = append(flags, "-workers", "0")
	front := begin(t, flags...)
	server := front.URL(t)
	target, err := url.Parse(server)
	require.NoError(t, err)
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
	})
	t.Cleanup(proxy.Close)
	run := api(t, server, "POST /assistants/1/test-trigger", map[string]any{"message": strings.Repeat("/emit 1\n/sleep 100ms\n", 2000)})

	v := visit(t, proxy.URL)
	v.allowErrors = true
	// Sessions end with the process that they are in. This one does not.
	credentials := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+password))
	_, err = chromedp.Call(v.tab, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Authorization": credentials}})
	require.NoError(t, err)
	v.open(fmt.Sprintf("/watch/?conversation=%v&run=%v", run["trigger_id"], run["run_id"]))
	v.shows("#state", "Connected.")
	v.goesOn()

	require.NoError(t, front.Cmd.Process.Kill())
	<-front.Exited
	v.shows("#state", "Reconnecting")
	v.shows("#state", "The server is unavailable. Retrying")
	serve(t, append(flags, "-addr", target.Host)...)
	v.shows("#state", "Connected.")
	v.goesOn()

	proxy.CloseClientConnections()
	v.shows("#state", "Reconnecting")
	v.shows("#state", "Connected.")
	v.goesOn()

	api(t, server, fmt.Sprintf("POST /runs/%v/cancel", run["run_id"]), map[string]any{})
	v.shows("#state", "The run has ended.")
	v.shows("#events", "run_cancelled")
	shown := eval[[]string](v, `[...document.querySelectorAll("#events li")].map((e) => e.textContent.split(" ")[0])`)
	require.Equal(t, stored(t, run["events_url"].(string)), shown)
}

// A server shuts down in the middle of a text, and another one executes the run
// again. The page shows the text of the second attempt, which is the result, and in
// a conversation that of each run.
func TestWatchPage_requeuedRun_showsTextOnce(t *testing.T) {
	t.Parallel()
	flags := []string{"-db", pgtest.Database(t), "-max-attempts", "2", "-drain", "0s"}
	front := serve(t, append(flags, "-workers", "0")...)
	worker := begin(t, flags...)
	worker.URL(t)
	v := visit(t, front)
	v.signIn()
	run := api(t, front, "POST /assistants/1/test-trigger", map[string]any{"message": "/stream 3\n/sleep 8s\n/stream 3"})
	v.open(fmt.Sprintf("/watch/?conversation=%v", run["trigger_id"]))
	v.shows("#events", "message_delta")
	require.NoError(t, worker.Cmd.Process.Signal(syscall.SIGTERM))
	v.shows("#events", "run_requeued")
	serve(t, flags...)
	v.shows("#events", "run_completed")
	result := api(t, front, fmt.Sprintf("GET /runs/%v", run["run_id"]), nil)["result"]
	const text = `document.querySelector("#texts").textContent`
	require.Equal(t, fmt.Sprintf("Run %v: %v", run["run_id"], result), eval[string](v, text))
	v.open(fmt.Sprintf("/watch/?conversation=%v&run=%v", run["trigger_id"], run["run_id"]))
	v.shows("#events", "run_completed")
	require.Equal(t, result, eval[string](v, text))
}

// Events are missing after a whole message. The page shows nothing of the message
// whose beginning is missing, until that message is complete.
func TestWatchPage_missingEvents_hideRestOfMessage(t *testing.T) {
	t.Parallel()
	complete := make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("/watch/", http.FileServer(http.Dir("../../../examples/server")))
	mux.Handle("/site.css", http.FileServer(http.Dir("../../../examples/server/pages")))
	mux.HandleFunc("/admin/static/icon.svg", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/conversations/1/agent-events", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Last-Event-ID") != "" || r.URL.Query().Has("after_event_id") { // the page has all events
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "retry: 10\n\n")
		send := func(id int, kind, text string) {
			fmt.Fprintf(w, "id: %d\ndata: {\"id\":%[1]d,\"sequence\":%[1]d,\"run_id\":7,\"event_type\":%q,\"payload\":{\"text\":%q}}\n\n", id, kind, text)
			_ = http.NewResponseController(w).Flush()
		}
		send(1, "run_started", "")
		send(2, "message_delta", "First")
		send(3, "message_completed", "First")
		send(5, "message_delta", "ond")
		select {
		case <-complete:
			send(6, "message_completed", "Second")
		case <-r.Context().Done():
		}
	})
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	v := visit(t, site.URL)
	v.open("/watch/?conversation=1")
	v.shows("#events", "5 message_delta")
	const text = `document.querySelector("#texts").textContent`
	require.Equal(t, "Run 7: ", eval[string](v, text))
	close(complete)
	v.shows("#state", "All runs have ended.")
	require.Equal(t, "Run 7: Second", eval[string](v, text))
}

// goesOn waits until the page shows more events than it does now.
func (v *visitor) goesOn() {
	v.t.Helper()
	const count = `document.querySelectorAll("#events li").length`
	v.until(fmt.Sprintf("%s > %d", count, eval[int](v, count)))
}

// stored returns the ids of a run that has ended.
func stored(t *testing.T, stream string) (ids []string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, stream, nil)
	require.NoError(t, err)
	request.SetBasicAuth("admin", password)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// A visitor who is not signed in gets a link to the sign-in, which repeats the form after a
// wrong password and leads back to the page.
func TestWatchPage_notSignedIn_leadsBackAfterSignIn(t *testing.T) {
	t.Parallel()
	url := serve(t, "-db", "memory")
	run := api(t, url, "POST /assistants/1/test-trigger", map[string]any{"message": "/say hello"})
	v := visit(t, url)
	v.allowErrors = true
	v.open(fmt.Sprintf("/watch/?conversation=%v", run["trigger_id"]))
	v.shows("#state", "You are not signed in.")
	v.click("#state a")
	v.until(`location.pathname === "/login" && document.readyState === "complete"`)
	v.fill("input[name=username]", "admin")
	v.fill("input[name=password]", "wrong")
	v.click("form button")
	v.shows("[role=alert]", "The user name or the password is wrong.")
	v.signInHere()
	v.until(`location.pathname === "/watch/"`)
	v.shows("#events", "run_completed")

	v.open("/nothing")
	v.shows("h1", "Page not found")
	v.click("main a")
	v.until(`location.pathname === "/" && document.readyState === "complete"`)
	v.shows("h1", "Evaluation server")
	v.do(chromedp.EmulateViewport(390, 900))
	v.until("document.documentElement.scrollWidth <= 390")
}
