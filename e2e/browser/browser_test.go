package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/e2e/browser"
	"github.com/webtrigger-go/webtrigger/internal/needs"
)

// witness is a test that another test looks at.
type witness struct {
	testing.TB
	cleanups []func()
	errors   []string
	skips    bool // for real
}

func (w *witness) Helper()          {}
func (w *witness) Cleanup(f func()) { w.cleanups = append(w.cleanups, f) }
func (w *witness) Errorf(format string, args ...any) {
	w.errors = append(w.errors, fmt.Sprintf(format, args...))
}
func (w *witness) Fatal(args ...any) { panic(fmt.Sprint(args...)) }
func (w *witness) Skip(args ...any) {
	if w.skips {
		w.TB.Skip(args...)
	}
	panic("skip")
}

func (w *witness) end() {
	for i := len(w.cleanups) - 1; i >= 0; i-- {
		w.cleanups[i]()
	}
}

// A page that goes wrong fails the test that opened it.
func TestComplaints(t *testing.T) {
	t.Parallel()
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/policy":
			w.Header().Set("Content-Security-Policy", "script-src 'none'")
			fmt.Fprint(w, `<p id="x">x</p><script>1</script>`)
		case "/throws":
			fmt.Fprint(w, `<p id="x">x</p><script>nothing.at.all()</script>`)
		default:
			fmt.Fprint(w, `<p id="x">x</p><script>try { nothing() } catch {}</script>`)
		}
	}))
	t.Cleanup(pages.Close)
	w := &witness{TB: t, skips: true}
	tab := chromium.New(w)
	for _, path := range []string{"/", "/throws", "/policy"} {
		require.NoError(t, chromedp.Do(tab, chromedp.Navigate(pages.URL+path)))
		text, err := chromedp.Run(tab, chromedp.Text("#x"))
		require.NoError(t, err)
		require.Equal(t, "x", text)
	}
	w.end()
	require.Len(t, w.errors, 2)
	require.Contains(t, w.errors[0], "nothing is not defined")
	require.Contains(t, w.errors[1], "Content Security Policy")
}

// If the program is missing, a test is skipped. If all tests must run, it fails.
func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("WEBTRIGGER_CHROMIUM", "")
	t.Setenv(needs.Variable, "")
	w := &witness{TB: t}
	require.PanicsWithValue(t, "skip", func() { new(browser.Shared).New(w) })
	t.Setenv(needs.Variable, "1")
	require.Panics(t, func() { new(browser.Shared).New(w) })
	t.Setenv("WEBTRIGGER_CHROMIUM", "/nowhere")
	t.Setenv(needs.Variable, "")
	require.Panics(t, func() { new(browser.Shared).New(&witness{TB: t}) }, "what is named must be there")
}
