package browser_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// The reader of docs/streaming.md shows the last message of run 3 of conversation 1,
// which another process began before, and stops at its end.
func TestDocumentedEventSource(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../../docs/streaming.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(document), "```js\n")
	require.True(t, found)
	script, _, found := strings.Cut(rest, "```\n")
	require.True(t, found)

	tab := chromium.New(t)
	first, interrupt := context.WithCancel(t.Context())
	svc, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(
		func(ctx context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
			if first.Err() == nil {
				err := emit(webtrigger.EventMessageDelta, map[string]string{"text": "Let me lo"})
				interrupt()
				<-ctx.Done()
				return nil, errors.Join(err, context.Cause(ctx))
			}
			for _, message := range [][]string{{"Let me ", "look."}, {"Hello, ", "<b>you</b>", "."}} {
				for _, text := range message {
					if err := emit(webtrigger.EventMessageDelta, map[string]string{"text": text}); err != nil {
						return nil, err
					}
				}
				if err := emit(webtrigger.EventMessageCompleted, map[string]string{"text": strings.Join(message, "")}); err != nil {
					return nil, err
				}
			}
			return &webtrigger.Result{Text: "Hello, <b>you</b>."}, nil
		}), &webtrigger.Options{BaseURL: "https://app.example.com", MaxAttempts: 2})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	for n := range 3 {
		run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: fmt.Sprint(n), ConversationID: min(int64(n), 1)})
		require.NoError(t, err)
		require.Equal(t, int64(1), run.ConversationID)
	}
	for _, earlier := range []int64{1, 2} { // the third run begins after their end
		_, err := svc.CancelRun(t.Context(), earlier, "")
		require.NoError(t, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/conversations/", svc.EventsHandler(func(*http.Request, webtrigger.Access) error { return nil }))
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><output id="output"></output><script>%s</script>`, script)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	require.NoError(t, chromedp.Do(tab, chromedp.Navigate(server.URL+"/page")))
	require.NoError(t, svc.Execute(first, 3)) // while the page follows it
	_, err = chromedp.Run(tab, chromedp.Poll[bool]("output.textContent === 'Let me lo'", chromedp.WithPollingTimeout(2*time.Minute)))
	require.NoError(t, err)
	require.NoError(t, svc.Execute(t.Context(), 3))
	_, err = chromedp.Run(tab, chromedp.Poll[bool]("source.readyState === EventSource.CLOSED",
		chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(2*time.Minute)))
	require.NoError(t, err)
	shown, err := chromedp.Run(tab, chromedp.Evaluate[string]("output.textContent"))
	require.NoError(t, err)
	require.Equal(t, "Hello, <b>you</b>.", shown)
	svc.CloseStreams()
}
