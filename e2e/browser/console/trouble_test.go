package console_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// gate stands before a server and can be shut.
type gate struct {
	*httptest.Server
	through http.Handler
	answer  atomic.Pointer[http.HandlerFunc] // instead of the server's; nil: the gate is open
}

func newGate(t *testing.T, site string) *gate {
	t.Helper()
	target, err := url.Parse(site)
	require.NoError(t, err)
	g := &gate{through: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}, ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }}}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := g.answer.Load(); answer != nil {
			(*answer)(w, r)
			return
		}
		g.through.ServeHTTP(w, r)
	}))
	t.Cleanup(g.Close)
	return g
}

// shut responds with answer instead of the server, and cuts open connections.
func (g *gate) shut(answer http.HandlerFunc) {
	g.answer.Store(&answer)
	g.CloseClientConnections()
}

func (g *gate) open() { g.answer.Store(nil) }

// fail has the API answer with a status, while pages are served.
func (g *gate) fail(status int, detail string) {
	g.shut(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/admin/api/") {
			g.through.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"status": %d, "detail": %q}`, status, detail)
	})
}

// unavailable closes the connection without a response.
func unavailable(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// visitGate signs in behind a gate.
func visitGate(t *testing.T) (*visitor, *gate) {
	t.Helper()
	g := newGate(t, serve(t))
	v := visit(t, g.URL)
	v.allowErrors = true
	v.signIn()
	return v, g
}

func (v *visitor) trigger(message string) (run int64) {
	v.t.Helper()
	return int64(api(v.t, v.site, "POST /assistants/1/test-trigger", map[string]any{"message": message})["run_id"].(float64))
}

// If the server becomes unavailable, an open list and an open run report it, keep their
// content, and continue without a click as soon as the server is available.
func TestConsole_serverUnavailable_recovers(t *testing.T) {
	t.Parallel()
	v, g := visitGate(t)
	first := v.trigger("/hang")
	v.open("/admin/runs")
	v.shows("#list", fmt.Sprintf("Run %d", first))
	v.until("window.same = true")
	g.shut(unavailable)
	v.shows("#live.off", "Connection lost")
	v.shows("#list", fmt.Sprintf("Run %d", first))
	g.open()
	second := v.trigger("/say hello")
	v.shows("#live.on", "Live")
	v.shows("#list", fmt.Sprintf("Run %d", second))
	v.until("window.same")

	v.open(fmt.Sprintf("/admin/runs/%d", first))
	v.part("events")
	v.shows("#feed", "run_started")
	v.until("window.same = true")
	g.shut(unavailable)
	v.shows("#live.off", "Connection lost")
	v.click("#cancel")
	v.confirm()
	v.shows("#notices .bad", "The server cannot be reached")
	v.shows("#feed", "run_started")
	g.open()
	v.shows("#live.on", "Live")
	v.click("#cancel")
	v.confirm()
	v.shows("#status", "cancelled")
	v.shows("#feed", "run_cancelled")
	v.shows("#live", "Complete")
	v.until("window.same")
	v.feedIsInOrder()
}

// The response to a cancellation may arrive after the page shows the run's end. Its
// content is older, and the page must not show it.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	v, g := visitGate(t)
	v.open(fmt.Sprintf("/admin/runs/%d", v.trigger("/hang")))
	v.shows("#live", "Live")
	v.shows("#status", "running")
	shown := make(chan struct{})
	hold := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/cancel") {
			g.through.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		g.through.ServeHTTP(answer, r)
		select {
		case <-shown:
		case <-r.Context().Done():
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = answer.Body.WriteTo(w)
	})
	g.answer.Store(&hold)
	v.click("#cancel")
	v.confirm()
	v.shows("#status", "cancelled")
	v.shows("#live", "Complete")
	close(shown)
	v.shows("#notices", "cancelled")
	v.shows("#status", "cancelled")
	v.until(`document.querySelector("#cancel").hidden`)
	require.Equal(t, "cancelled", strings.TrimSpace(v.text("#status")))
}

// If the session ends, open pages report it and link to the sign-in page.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	v, g := visitGate(t)
	leave := func() {
		require.True(t, eval[bool](v, `fetch("/logout", {method: "POST"}).then((r) => r.ok)`))
	}
	signInAgain := func(link string) {
		v.shows("body", "You are signed out")
		v.click(link)
		v.until(`location.pathname === "/login" && document.readyState === "complete"`)
		v.signInHere()
	}

	v.open("/admin/runs")
	leave()
	signInAgain(`#list a[href="/login"]`) // it has asked again by itself

	v.open(fmt.Sprintf("/admin/runs/%d", v.trigger("/hang")))
	v.shows("#live", "Live")
	leave()
	g.CloseClientConnections() // within ten seconds the server would
	v.shows("#live.off", "You are signed out")
	signInAgain(`#notices a[href="/login"]`)

	v.open(assistant + "/keys")
	leave()
	v.fill("#create input[name=name]", "too late")
	v.click("#create button")
	signInAgain(`#notices a[href="/login"]`)
	v.open(assistant + "/keys")
	v.shows("#list", "No API keys yet")
}

// A page whose data cannot be loaded shows the reason. It recovers with a button, or
// without one if it polls.
func TestFaults(t *testing.T) {
	t.Parallel()
	v, g := visitGate(t)
	run := v.trigger("/say hello")
	for _, c := range []struct {
		page, place string
		byItself    bool
	}{
		{"/admin/", "#list", false},
		{"/admin/assistants/1", "#channel", false},
		{"/admin/assistants/1/keys", "#list", false},
		{"/admin/assistants/1/tasks/new", "#loading", false},
		{"/admin/runs", "#list", false},
		{fmt.Sprintf("/admin/runs/%d", run), "#result", true},
	} {
		g.fail(http.StatusInternalServerError, "It broke.")
		v.open(c.page)
		v.shows(c.place+" [role=alert]", "It broke.")
		g.open()
		if !c.byItself {
			v.click(c.place + " [role=alert] button")
		}
		v.until(fmt.Sprintf("!document.querySelector(%s)", quote("main [role=alert]")))
		v.settled()
		if c.page == "/admin/runs" {
			v.shows("#live.on", "Live")
		}
	}
	v.shows("#result", "hello")

	g.fail(http.StatusServiceUnavailable, "The service cannot answer now.")
	v.open("/admin/runs")
	v.shows("#live.off", "Connection lost")
	v.shows("#list [role=alert]", "cannot be reached or cannot answer now")
	g.open()
	v.shows("#live.on", "Live")
	v.shows("#list", fmt.Sprintf("Run %d", run))
}
