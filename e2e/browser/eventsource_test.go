package browser_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// page follows the streams in its address's fragment with nothing but
// EventSource.
//
//go:embed testdata/eventsource.html
var page string

// seen is what a source of the page has got.
type seen struct {
	IDs    []int64  `json:"ids"`
	Types  []string `json:"types"`
	Texts  []string `json:"texts"`
	Opened int      `json:"opened"`
	Closed bool     `json:"closed"`
}

// The host is killed in the middle of a run, started again, ended by SIGTERM, and
// started again. EventSource itself, over HTTP/1.1 and over HTTP/2, has every event
// once and in order, and asks no more after the end.
func TestEventSource(t *testing.T) {
	t.Parallel()
	tab := chromium.New(t)
	dsn := pgtest.Database(t)
	store, closeStore, err := openStore(dsn)
	require.NoError(t, err)
	t.Cleanup(closeStore)
	require.NoError(t, store.Migrate(t.Context()))
	h := newHost(t, dsn)
	accepted, err := store.CreateTrigger(t.Context(), webtrigger.NewTrigger{
		RunKey: uuid.NewString(), AssistantID: "1", Input: webtrigger.RunInput{Message: "go"}, BaseURL: "http://" + h.addrs[0],
	})
	require.NoError(t, err)

	other, cancel := chromedp.NewContext(tab)
	defer cancel()
	stream := fmt.Sprintf("/conversations/%d/agent-events", accepted.Run.ConversationID)
	streams := fmt.Sprintf("#%s %s?run_id=%d", stream, stream, accepted.Run.ID)
	tabs := map[string]context.Context{"http://" + h.addrs[0]: tab, "https://" + h.addrs[1]: other}
	for origin, tab := range tabs {
		require.NoError(t, chromedp.Do(tab, chromedp.Navigate(origin+"/page"+streams)))
	}
	wait := func(expression string) {
		t.Helper()
		for _, tab := range tabs {
			_, err := chromedp.Run(tab, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(2*time.Minute)))
			require.NoError(t, err, expression)
		}
	}
	wait("seen.every(s => s.types.includes('x_step'))")
	h.end(syscall.SIGKILL)
	h.start("")
	wait("seen.every(s => s.types.filter(t => t === 'run_started').length >= 2 && s.types.at(-1) === 'x_step')")
	h.end(syscall.SIGTERM)
	h.start("yes")
	wait("seen.every(s => s.closed)")
	asked := get(t, "http://"+h.addrs[0]+"/asked")
	wait("seen.every(s => s.later)") // longer than EventSource waits before it reconnects
	require.Equal(t, asked, get(t, "http://"+h.addrs[0]+"/asked"), "no reader may reconnect after the end")

	log, err := store.Events(t.Context(), webtrigger.EventQuery{ConversationID: accepted.Run.ConversationID, Limit: 100_000})
	require.NoError(t, err)
	require.True(t, log.Ended)
	var want seen
	for _, e := range log.Events {
		want.IDs, want.Types = append(want.IDs, e.ID), append(want.Types, string(e.Type))
		var payload struct {
			Text string `json:"text"`
		}
		require.NoError(t, json.Unmarshal(e.Payload, &payload))
		want.Texts = append(want.Texts, payload.Text)
	}
	require.Contains(t, want.Types, "run_requeued")
	require.Equal(t, "run_completed", want.Types[len(want.Types)-1])
	for origin, tab := range tabs {
		got, err := chromedp.Run(tab, chromedp.Evaluate[[]seen]("seen"))
		require.NoError(t, err)
		require.Len(t, got, 2)
		for _, s := range got {
			require.Equal(t, want.IDs, s.IDs, origin)
			require.Equal(t, want.Types, s.Types, origin)
			require.Equal(t, want.Texts, s.Texts, origin)
			require.GreaterOrEqual(t, s.Opened, 3, "connections to %s", origin)
		}
		protocol, err := chromedp.Run(tab, chromedp.Evaluate[string]("performance.getEntriesByType('navigation')[0].nextHopProtocol"))
		require.NoError(t, err)
		require.Equal(t, map[context.Context]string{tabs["http://"+h.addrs[0]]: "http/1.1", other: "h2"}[tab], protocol)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}
