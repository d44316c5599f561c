package bunstore_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
)

// No id, cursor or time of a request causes an internal error, however large.
func TestRequests_extremeNumbersAndTimes_neverReturn500(t *testing.T) {
	t.Parallel()
	for name, db := range map[string]*bun.DB{
		"postgres": postgresDB(t, schemas.Database(t)),
		"sqlite":   sqliteDB(t, ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyone := func(*http.Request, webtrigger.Access) error { return nil }
			svc := service(t, migrated(t, db, nil))
			t.Cleanup(svc.CloseStreams)
			api, err := admin.New(svc, everyone, nil)
			require.NoError(t, err)
			mux := http.NewServeMux()
			mux.Handle("/admin/", http.StripPrefix("/admin", api))
			mux.Handle("/conversations/", svc.EventsHandler(everyone))
			mux.Handle("/api/v1/", svc)
			_, secret, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "Make"})
			require.NoError(t, err)
			server := httptest.NewServer(mux)
			t.Cleanup(server.Close)
			send := func(method, path, body string) int {
				r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
				require.NoError(t, err)
				r.Header.Set("Authorization", "Bearer "+secret)
				r.Header.Set("Content-Type", "application/json")
				answer, err := server.Client().Do(r)
				require.NoError(t, err)
				require.NoError(t, answer.Body.Close())
				return answer.StatusCode
			}
			require.Equal(t, http.StatusAccepted, send("POST", "/api/v1/assistants/1/web-trigger", `{"message":"x"}`))
			for _, number := range []string{
				"0", "-1", "01", "2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
				"18446744073709551616", strings.Repeat("9", 400), "1e3", "١",
			} {
				cursor := base64.RawURLEncoding.EncodeToString([]byte(number))
				for _, path := range []string{
					"/admin/runs?cursor=" + cursor, "/admin/runs?key_id=" + number, "/admin/runs?limit=" + number,
					"/admin/assistants?cursor=" + cursor, "/admin/assistants/1/keys?cursor=" + cursor,
					"/admin/assistants/1/tasks?cursor=" + cursor, "/admin/runs/1/deliveries?cursor=" + cursor,
					"/admin/runs/" + number, "/admin/runs/" + number + "/deliveries", "/admin/runs/" + number + "/events",
					"/admin/tasks/" + number, "/api/v1/web-triggers/" + number + "/status",
					"/api/v1/web-triggers/" + number + "/events", "/conversations/" + number + "/agent-events",
				} {
					require.Less(t, send("HEAD", path, ""), 500, path)
				}
				for _, query := range []string{
					"run_id=" + number, "after_event_id=" + number, "run_id=1&after_sequence=" + number,
					"run_id=" + number + "&after_sequence=" + number + "&after_event_id=" + number,
				} {
					require.Less(t, send("HEAD", "/conversations/1/agent-events?"+query, ""), 500, query)
					require.Less(t, send("HEAD", "/api/v1/web-triggers/1/events?"+query, ""), 500, query)
				}
				for _, path := range []string{
					"/admin/keys/" + number + "/revoke", "/admin/keys/" + number + "/rotate", "/admin/runs/" + number + "/cancel",
					"/admin/deliveries/" + number + "/redeliver", "/api/v1/web-triggers/" + number + "/cancel",
				} {
					if number != "1" {
						require.Less(t, send("POST", path, `{"grace_period":0}`), 500, path)
					}
				}
				require.Less(t, send("POST", "/api/v1/assistants/1/web-trigger", `{"message":"x","task_definition_id":`+number+`}`), 500, number)
			}
			for _, time := range []string{
				"0000-01-01T00:00:00Z", "0001-01-01T00:00:00%2B23:59", "0001-01-01T00:00:01Z", "9999-12-31T23:59:59-23:59",
				"9999-12-31T23:59:59.999999999Z", "10000-01-01T00:00:00Z",
			} {
				require.Less(t, send("GET", "/admin/runs?from="+time, ""), 500, time)
				require.Less(t, send("GET", "/admin/runs?to="+time, ""), 500, time)
			}
		})
	}
}
