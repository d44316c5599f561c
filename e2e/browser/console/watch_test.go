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
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// The page that follows a run keeps its place while the server behind a proxy is away,
// which EventSource takes for the end, and over a lost connection. It says how things
// are, and shows every event once.
func TestWatchPage(t *testing.T) {
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
	v.refusals = true
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
	v.shows("#state", "The server cannot answer now. Trying again")
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
