package admin_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
)

// console mounts the console of h at a path that ends in a slash.
func console(h *host, at string, opts *admin.ConsoleOptions) string {
	h.t.Helper()
	c, err := admin.NewConsole(h.svc, h.authorize, opts)
	require.NoError(h.t, err)
	mux := http.NewServeMux()
	mux.Handle(at, http.StripPrefix(strings.TrimSuffix(at, "/"), c))
	server := httptest.NewServer(mux)
	h.t.Cleanup(server.Close)
	return server.URL + at
}

// visit gets a URL as a user; "" is not signed in.
func visit(h *host, method, address, user string, headers ...string) (*http.Response, string) {
	h.t.Helper()
	r := newRequest(h.t, method, address, "")
	r.Header.Set("X-User", user)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := h.wire.RoundTrip(r)
	require.NoError(h.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(h.t, err)
	return response, string(body)
}

// consolePages are the pages of the resources that fill has created, and the expected
// question to the authorizer for each.
func consolePages() map[string]webtrigger.Access {
	about := func(action webtrigger.Action, conversationID int64) webtrigger.Access {
		return webtrigger.Access{Action: action, AssistantID: "1", ConversationID: conversationID}
	}
	return map[string]webtrigger.Access{
		"":                       {Action: "assistants.read"},
		"assistants/1":           about("channel.read", 0),
		"assistants/1/keys":      about("keys.read", 0),
		"assistants/1/tasks":     about("tasks.read", 0),
		"assistants/1/tasks/new": about("tasks.write", 0),
		"assistants/1/test":      about("runs.write", 0),
		"keys":                   {Action: "keys.read"},
		"keys?assistant_id=1":    about("keys.read", 0),
		"tasks":                  {Action: "tasks.read"},
		"tasks?assistant_id=1":   about("tasks.read", 0),
		"tasks/3":                about("tasks.read", 0),
		"runs":                   {Action: "runs.read"},
		"runs?assistant_id=1":    about("runs.read", 0),
		"runs?assistant_id=%20":  {Action: "runs.read"},
		"runs/3":                 about("runs.read", 2),
		"waiting":                {Action: "runs.read"},
		"waiting?assistant_id=1": about("runs.read", 0),

		"audit":                          {Action: "audit.read"},
		"data":                           {Action: "data.read"},
		"overview":                       {Action: "stats.read"},
		"callbacks":                      {Action: "deliveries.read"},
		"callbacks?assistant_id=1":       about("deliveries.read", 0),
		"signing-secrets":                {Action: "secrets.read"},
		"signing-secrets?assistant_id=1": about("secrets.read", 0),

		"conversations":                {Action: "conversations.read"},
		"conversations?assistant_id=1": about("conversations.read", 0),
		"conversations/2":              about("conversations.read", 2),
	}
}

func TestNewConsole(t *testing.T) {
	t.Parallel()
	h := setup(t)
	_, err := admin.NewConsole(nil, h.authorize, nil)
	require.Error(t, err)
	_, err = admin.NewConsole(h.svc, nil, nil)
	require.Error(t, err)
	_, err = admin.NewConsole(h.svc, h.authorize, &admin.ConsoleOptions{Options: admin.Options{MaxBodyBytes: -1}})
	require.Error(t, err)
}

func TestPagesAskTheAuthorizer(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	base := console(h, "/deep/in/the/app/", nil)
	h.asked()
	for page, want := range consolePages() {
		response, body := visit(h, "GET", base+page, "root")
		require.Equal(t, http.StatusOK, response.StatusCode, page)
		require.Equal(t, "text/html; charset=utf-8", response.Header.Get("Content-Type"))
		require.Contains(t, body, "<main id=\"main\"")
		require.Equal(t, []webtrigger.Access{want}, h.asked(), page)

		head, nothing := visit(h, "HEAD", base+page, "root")
		require.Equal(t, http.StatusOK, head.StatusCode)
		require.Empty(t, nothing)
		h.asked()
	}
	for page, action := range map[string]webtrigger.Action{"runs/99": "runs.read", "tasks/99": "tasks.read", "conversations/99": "conversations.read", "assistants/%20/keys": "keys.read"} {
		response, _ := visit(h, "GET", base+page, "root")
		require.Equal(t, http.StatusNotFound, response.StatusCode, page)
		require.Equal(t, []webtrigger.Access{{Action: action}}, h.asked(), page)
	}
}

func TestConsole_noSidebar_keepsPagesAndTheirLinks(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	const opening, side, end = `<body data-root=`, "<header class=\"side\">", "</header>"
	with, without := console(h, "/admin/", nil), console(h, "/admin/", &admin.ConsoleOptions{NoSidebar: true})
	for page := range consolePages() {
		_, whole := visit(h, "GET", with+page, "root")
		response, bare := visit(h, "GET", without+page, "root")
		require.Equal(t, http.StatusOK, response.StatusCode, page)
		require.NotContains(t, bare, side, page)
		before, rest, found := strings.Cut(strings.ReplaceAll(whole, with, without), side)
		require.True(t, found, page)
		_, after, _ := strings.Cut(rest, end)
		squeeze := func(text string) string { return strings.Join(strings.Fields(text), " ") }
		require.Equal(t, squeeze(strings.Replace(before, opening, `<body class="bare" data-root=`, 1)+after), squeeze(bare), "%s differs by the sidebar alone", page)
	}
}

func TestPagesOfOthersLookAbsent(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	base := console(h, "/admin/", &admin.ConsoleOptions{SignIn: "/login"})
	for page, access := range consolePages() {
		theirs, body := visit(h, "GET", base+page, "of-2", "X-Request-Id", "same")
		require.Equal(t, http.StatusNotFound, theirs.StatusCode, page)
		depth := strings.Repeat("x/", strings.Count(page, "/"))
		_, absent := visit(h, "GET", base+depth+"x", "of-2", "X-Request-Id", "same")
		require.Equal(t, absent, body, page)
		if access.AssistantID != "" {
			own, _ := visit(h, "GET", base+page, "of-1")
			require.Equal(t, http.StatusOK, own.StatusCode, page)
		}
	}
}

func TestPagesWithoutASession(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	sent := console(h, "/admin/", &admin.ConsoleOptions{SignIn: "/login?from=console"})
	without := console(h, "/admin/", nil)
	for page := range consolePages() {
		response, body := visit(h, "GET", sent+page, "")
		require.Equal(t, http.StatusSeeOther, response.StatusCode, page)
		require.Equal(t, "/login?from=console", response.Header.Get("Location"))
		require.NotContains(t, body, "Hello")

		response, body = visit(h, "GET", without+page, "")
		require.Equal(t, http.StatusUnauthorized, response.StatusCode, page)
		require.Contains(t, body, "You are not signed in")
	}
	response, _ := visit(h, "GET", sent+"api/runs", "")
	require.Equal(t, http.StatusUnauthorized, response.StatusCode, "the API does not redirect")
	for _, secret := range []string{"runs/99", "tasks/99", "conversations/99"} {
		response, _ := visit(h, "GET", sent+secret, "")
		require.Equal(t, http.StatusSeeOther, response.StatusCode, "a resource that does not exist must look the same")
	}
}

func TestConsoleHeaders(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	base := console(h, "/admin/", nil)
	for page := range consolePages() {
		response, body := visit(h, "GET", base+page, "root")
		require.Equal(t, "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'", response.Header.Get("Content-Security-Policy"), page)
		require.Equal(t, "no-store", response.Header.Get("Cache-Control"))
		require.Equal(t, "nosniff", response.Header.Get("X-Content-Type-Options"))
		require.NotRegexp(t, `(?i)<script(?:\s+type="module"\s+src="[^"]+")?\s*>\s*[^<\s]`, body, "no script within the page")
		require.NotRegexp(t, `(?i)\son\w+=|\sstyle=|<style|javascript:`, body)
	}
	response, body := visit(h, "POST", base+"runs", "root")
	require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)
	require.Equal(t, "GET, HEAD", response.Header.Get("Allow"))
	require.Contains(t, body, "Pages are read-only")
	response, _ = visit(h, "POST", base+"api/keys/2/revoke", "root", "Origin", "https://evil.example")
	require.Equal(t, http.StatusForbidden, response.StatusCode)
}

var links = regexp.MustCompile(`(?:href|src|action)="([^"#]*)"`)

// Every link of every page works under any mount.
func TestLinksAreRelative(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	for _, at := range []string{"/", "/admin/", "/a/b%20c/"} {
		c, err := admin.NewConsole(h.svc, h.authorize, nil)
		require.NoError(t, err)
		mount, err := url.Parse(strings.TrimSuffix(at, "/"))
		require.NoError(t, err)
		server := httptest.NewServer(http.StripPrefix(mount.Path, c))
		defer server.Close()
		base := server.URL + at
		for page := range consolePages() {
			here, err := url.Parse(base + page)
			require.NoError(t, err)
			_, body := visit(h, "GET", here.String(), "root")
			found := links.FindAllStringSubmatch(body, -1)
			require.NotEmpty(t, found)
			for _, link := range found {
				require.False(t, strings.HasPrefix(link[1], "/") || strings.Contains(link[1], "://"), link[1])
				target, err := here.Parse(link[1])
				require.NoError(t, err)
				response, _ := visit(h, "GET", target.String(), "root")
				require.Equal(t, http.StatusOK, response.StatusCode, "%s on %s%s", link[1], at, page)
			}
		}
	}
}

func TestConsoleFiles(t *testing.T) {
	t.Parallel()
	h := setup(t)
	base := console(h, "/admin/", nil)
	for file, kind := range map[string]string{
		"console.css": "text/css; charset=utf-8", "run.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		response, body := visit(h, "GET", base+"static/"+file, "")
		require.Equal(t, http.StatusOK, response.StatusCode, file)
		require.Equal(t, kind, response.Header.Get("Content-Type"))
		require.NotEmpty(t, body)
		again, _ := visit(h, "GET", base+"static/"+file, "", "If-None-Match", response.Header.Get("ETag"))
		require.Equal(t, http.StatusNotModified, again.StatusCode)
	}
	require.Empty(t, h.asked(), "files hold no data")
	for _, path := range []string{"static/", "static/none.js", "static/..%2flayout.html", "pages/run.html", "layout.html"} {
		response, _ := visit(h, "GET", base+path, "root")
		require.Equal(t, http.StatusNotFound, response.StatusCode, path)
	}
}

// What others have written is text.
func TestPagesEscape(t *testing.T) {
	t.Parallel()
	h := setup(t, func(_ *host, o *admin.Options) {})
	const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`
	base := console(h, "/admin/", nil)
	task, err := h.svc.CreateTaskDefinition(h.ctx, webtrigger.TaskDefinition{AssistantID: "1", Name: evil, Instructions: evil, OutputType: webtrigger.OutputJSON,
		OutputSchema: []byte(`{"title":"<script>"}`), AllowedTools: []string{evil}, Active: true})
	require.NoError(t, err)
	run := h.trigger("1", webtrigger.TriggerRequest{Message: evil, Subject: evil, TaskDefinitionID: task.ID,
		Context: []byte(`{"<script>":1e22,"n":123456789012345678901234567890}`), Metadata: []byte(`["<img src=x>"]`)})
	for _, page := range []string{fmt.Sprintf("runs/%d", run.ID), fmt.Sprintf("tasks/%d", task.ID), fmt.Sprintf("conversations/%d", run.ConversationID)} {
		response, body := visit(h, "GET", base+page, "root")
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.NotContains(t, body, "<script>")
		require.NotContains(t, body, "<img")
		require.Contains(t, body, "&lt;script&gt;alert(1)")
	}
	_, body := visit(h, "GET", base+fmt.Sprintf("runs/%d", run.ID), "root")
	require.Contains(t, body, "1e22", "as it was sent")
	require.Contains(t, body, "123456789012345678901234567890")
}

func TestConsoleOverABrokenStore(t *testing.T) {
	t.Parallel()
	h := setup(t, func(h *host, _ *admin.Options) {
		h.front = failing{h.store, fmt.Errorf("dial tcp 10.0.0.7: %w", webtrigger.ErrUnavailable)}
	})
	response, body := visit(h, "GET", console(h, "/admin/", nil)+"runs/1", "root")
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", response.Header.Get("Content-Type"))
	require.Contains(t, body, "temporarily unavailable")
	require.NotContains(t, body, "10.0.0.7")
}
