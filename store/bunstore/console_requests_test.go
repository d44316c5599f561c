package bunstore_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
)

// consoleRequests are the requests of the console's pages, over HTTP and through its
// authorizer, by path.
func consoleRequests(t *testing.T, s webtrigger.Store, n int64) map[string]func(ctx context.Context) error {
	t.Helper()
	svc := service(t, s)
	t.Cleanup(svc.CloseStreams)
	console, err := admin.NewConsole(svc, func(*http.Request, webtrigger.Access) error { return nil }, nil)
	require.NoError(t, err)
	server := httptest.NewServer(console)
	t.Cleanup(server.Close)
	requests := make(map[string]func(ctx context.Context) error)
	for _, path := range consolePaths(n) {
		requests["GET "+path] = func(ctx context.Context) error {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
			if err != nil {
				return err
			}
			answer, err := server.Client().Do(r)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err == nil && answer.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %d: %s", answer.StatusCode, body)
			}
			return err
		}
	}
	return requests
}

// consolePaths are the pages, and the calls that each of them makes.
func consolePaths(n int64) []string {
	end := listBegin.Add(time.Duration(n) * time.Second)
	past := func(days int) string { return url.QueryEscape(end.AddDate(0, 0, -days).Format(time.RFC3339)) }
	lastHour, until := url.QueryEscape(end.Add(-time.Hour).Format(time.RFC3339)), past(0)
	const undelivered = "state=failed&state=blocked&state=unknown"
	paths := []string{
		// Pages. Most have no data of their own.
		"/", "/overview", "/runs", "/waiting", "/callbacks", "/conversations", "/tasks", "/keys", "/signing-secrets", "/audit", "/data",
		"/assistants/3", "/assistants/3/keys", "/assistants/3/tasks", "/assistants/3/tasks/new", "/assistants/3/test", "/tasks/7",
		fmt.Sprintf("/runs/%d", n), fmt.Sprintf("/conversations/%d", n),
		// Selects and names of most pages.
		"/api/assistants?limit=200", "/api/assistants/3/keys?limit=200", "/api/assistants/3/tasks?limit=200",
		// Overview
		"/api/queue", "/api/deliveries/counts?last=true&" + undelivered + "&from=" + past(1), "/api/deliveries/counts?last=true&" + undelivered + "&from=" + past(30),
		"/api/stats?step=3600&from=" + past(1) + "&to=" + until, "/api/stats?step=21600&from=" + past(7) + "&to=" + until, "/api/stats?step=86400&from=" + past(30) + "&to=" + until,
		// Runs and Waiting for input
		"/api/runs", "/api/runs?assistant_id=3", "/api/runs?status=failed&status=timed_out", "/api/runs?status=running&order=oldest", "/api/runs?status=waiting",
		"/api/runs?status=completed", "/api/runs?order=oldest", "/api/runs?key_id=2", "/api/runs?task_definition_id=7", "/api/runs?callback_state=failed",
		"/api/runs?callback_state=failed&callback_state=blocked&callback_state=unknown", "/api/runs?callback_state=delivered", "/api/runs?from=" + lastHour, "/api/runs?from=" + past(1), "/api/runs?to=" + past(5), "/api/runs?q=4711",
		"/api/runs?status=failed&callback_state=failed&from=" + past(7), "/api/runs?assistant_id=4&callback_state=failed",
		"/api/runs/counts", "/api/runs/counts?assistant_id=3", "/api/runs/counts?key_id=2", "/api/runs/counts?callback_state=failed", "/api/runs/counts?from=" + lastHour,
		"/api/runs/counts?from=" + past(1), "/api/runs/counts?from=" + past(30), "/api/runs/counts?to=" + past(5),
		"/api/runs?from=" + past(9) + "&to=" + past(5), "/api/runs/counts?from=" + past(9) + "&to=" + past(5), "/api/runs/counts?task_definition_id=7",
		// Run and Conversation
		fmt.Sprintf("/api/runs/%d", n), fmt.Sprintf("/api/runs/%d/deliveries", n), fmt.Sprintf("/api/runs/%d/events", n-1),
		fmt.Sprintf("/api/conversations/%d", n), fmt.Sprintf("/api/conversations/%d/messages?limit=100", n),
		fmt.Sprintf("/api/conversations/%[1]d/messages?limit=100&run_id=%[1]d", n), fmt.Sprintf("/api/runs?assistant_id=0&conversation_id=%d&limit=50", n),
		"/api/conversations", "/api/conversations?assistant_id=3", "/api/conversations?conversation_key=ticket+20",
		// Callbacks
		"/api/deliveries", "/api/deliveries?" + undelivered, "/api/deliveries?host=host0&" + undelivered, "/api/deliveries?host=host4", "/api/deliveries?host=absent",
		"/api/deliveries?assistant_id=4", "/api/deliveries?state=pending", "/api/deliveries?state=delivered&host=host0", "/api/deliveries?from=" + lastHour,
		"/api/deliveries?from=" + past(30) + "&" + undelivered, "/api/deliveries/counts?last=true", "/api/deliveries/counts?last=true&assistant_id=4",
		"/api/deliveries/counts?last=true&from=" + lastHour, "/api/deliveries/counts?last=true&from=" + past(1), "/api/deliveries/counts?last=true&from=" + past(30),
		// Tasks, keys, secrets, audit log, data
		"/api/tasks", "/api/tasks?assistant_id=3&active=true", "/api/tasks/7", "/api/tools", "/api/keys", "/api/keys?prefix=abcd1234", "/api/keys?active=false", "/api/keys/7",
		"/api/assistants/3/channel", "/api/assistants/3/signing-secrets", "/api/audit", "/api/audit?actor=user7", "/api/audit?actor=absent",
		"/api/audit?object=run/500", "/api/audit?from=" + past(1), "/api/audit?to=" + past(10), "/api/data",
	}
	return paths
}
