package admin

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/bridge"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// ConsoleOptions configures a Console. Every field has a safe default.
type ConsoleOptions struct {
	Options // of the JSON API

	// SignIn is the URL to which a browser without a session is redirected, for
	// example "/login". If empty, the browser gets a page with status 401.
	SignIn string

	// SignOut is the URL to which the button "Sign out" posts, on the same origin. If
	// empty, there is no button.
	SignOut string

	// NoSidebar removes the sidebar from all pages, for a host that links to them from
	// its own. Links and permissions do not change.
	NoSidebar bool
}

// Console is the web console for operators. It serves pages and, at api/, the JSON
// API that they use. All links are relative, so you can mount it at any path that
// ends in a slash, behind [http.StripPrefix]. It is safe for concurrent use.
type Console struct {
	api    *Handler
	opts   ConsoleOptions
	pages  map[string]*template.Template
	static map[string]asset
	mux    *http.ServeMux
}

// NewConsole returns the console of svc. It calls authorize for every page and every
// API call. It copies opts; if opts is nil, the defaults apply. It returns an error if
// svc or authorize is nil, or if an option is invalid.
func NewConsole(svc *webtrigger.Service, authorize webtrigger.Authorizer, opts *ConsoleOptions) (*Console, error) {
	var o ConsoleOptions
	if opts != nil {
		o = *opts
	}
	api, err := New(svc, authorize, &o.Options)
	if err != nil {
		return nil, err
	}
	c := &Console{api: api, opts: o, mux: http.NewServeMux()}
	if c.pages, err = readPages(); err != nil {
		return nil, fmt.Errorf("admin: read pages: %w", err)
	}
	if c.static, err = readAssets(); err != nil {
		return nil, fmt.Errorf("admin: read assets: %w", err)
	}
	c.routes()
	return c, nil
}

// contentPolicy permits files of this origin, and no scripts or styles inside the
// page.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP serves the pages, their files and the API.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if strings.HasPrefix(r.URL.Path, "/api/") {
		http.StripPrefix("/api", c.api).ServeHTTP(w, r)
		return
	}
	wire.SetRequestID(w, r)
	h.Set("Cache-Control", "no-store")
	p := r.URL.EscapedPath()
	switch {
	case !strings.HasPrefix(p, "/") || path.Clean(p) != p: // the mux would redirect it, to a place outside of the mount
		c.fail(w, r, webtrigger.ErrNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		c.fail(w, r, wire.MethodNotAllowed("GET, HEAD"))
	default:
		c.mux.ServeHTTP(w, r)
	}
}

// root is the relative URL of the mount, seen from a path.
func root(urlPath string) string {
	if depth := strings.Count(urlPath, "/") - 1; depth > 0 {
		return strings.Repeat("../", depth)
	}
	return "./"
}

//go:embed console
var consoleFiles embed.FS

// readPages parses each page within the layout.
func readPages() (map[string]*template.Template, error) {
	layout, err := template.ParseFS(consoleFiles, "console/layout.html")
	if err != nil {
		return nil, err
	}
	files, err := fs.Glob(consoleFiles, "console/pages/*.html")
	if err != nil {
		return nil, err
	}
	pages := make(map[string]*template.Template, len(files))
	for _, file := range files {
		page, err := layout.Clone()
		if err != nil {
			return nil, err
		}
		if page, err = page.ParseFS(consoleFiles, file); err != nil {
			return nil, err
		}
		pages[strings.TrimSuffix(path.Base(file), ".html")] = page
	}
	return pages, nil
}

// asset is a static file. Its tag changes with it, so that a browser may keep it
// and ask.
type asset struct {
	content []byte
	tag     string
}

func readAssets() (map[string]asset, error) {
	const dir = "console/static"
	files, err := consoleFiles.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	assets := make(map[string]asset, len(files))
	for _, file := range files {
		content, err := consoleFiles.ReadFile(dir + "/" + file.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		assets[file.Name()] = asset{content, `"` + hex.EncodeToString(sum[:12]) + `"`}
	}
	return assets, nil
}

// serveAsset serves a file without a sign-in: it holds no data.
func (c *Console) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	file, ok := c.static[name]
	if !ok {
		c.fail(w, r, webtrigger.ErrNotFound)
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", file.tag)
	// A host's table of types is not to be trusted: a script of another type does not run.
	for suffix, contentType := range map[string]string{
		".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	} {
		if strings.HasSuffix(name, suffix) {
			w.Header().Set("Content-Type", contentType)
		}
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(file.content))
}

// fail shows what is wrong as a page. A visitor who is not signed in is sent to where
// that can be done.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, webtrigger.ErrUnauthenticated) && c.opts.SignIn != "" {
		http.Redirect(w, r, c.opts.SignIn, http.StatusSeeOther)
		return
	}
	problem := &problemWriter{header: make(http.Header)}
	bridge.WriteError(c.api.svc, problem, r, err)
	for _, name := range []string{"Allow", "Retry-After", "WWW-Authenticate"} {
		if value := problem.header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	c.write(w, r, problem.status, "problem", &page{
		Title: http.StatusText(problem.status), Status: problem.status, RequestID: wire.RequestID(w)})
}

// problemWriter keeps the head of a problem that is shown as a page instead.
type problemWriter struct {
	header http.Header
	status int
}

func (p *problemWriter) Header() http.Header { return p.header }

func (p *problemWriter) WriteHeader(status int) { p.status = status }

func (p *problemWriter) Write(b []byte) (int, error) { return len(b), nil }
