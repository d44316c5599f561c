package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/client"
)

// event is a frame of run 1, whose sequences are its ids, or of another by
// "run/sequence".
func event(id, sequence int, typ string) string {
	return fmt.Sprintf("id: %d\ndata: {\"event_type\":%q,\"sequence\":%d,\"id\":%d,\"run_id\":1,\"payload\":{},\"created_at\":\"2026-04-15T10:01:23+00:00\"}\n\n",
		id, typ, sequence, id)
}

func step(n int) string { return event(n, n, "x_step") }
func end(n int) string  { return event(n, n, "run_completed") }

// answer is one answer of a scripted server.
type answer struct {
	status int // 0: 200
	header http.Header
	body   string
	hang   time.Duration // before the end
	cursor string        // the Last-Event-ID that is expected
}

func problem(status int, body string, header ...string) answer {
	h := http.Header{"Content-Type": {"application/problem+json"}, "X-Request-Id": {"r-1"}}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return answer{status: status, header: h, body: body}
}

// at is the answer to a request with that cursor.
func (a answer) at(cursor string) answer {
	a.cursor = cursor
	return a
}

func stream(frames ...string) answer { return answer{body: strings.Join(frames, "")} }

var over = answer{status: http.StatusNoContent}

// received returns what a loop over a stream yields: ids, gaps as "[from-to]", and the
// error that ended it.
func received(t *testing.T, opts client.Options, answers ...answer) (got string, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !assertEqual(t, "/base/api/v1/web-triggers/42/events", r.URL.Path) || !assertEqual(t, "Bearer secret", r.Header.Get("Authorization")) {
				return
			}
			if n >= len(answers) {
				t.Errorf("one request more than %d", len(answers))
				w.WriteHeader(http.StatusNoContent)
				return
			}
			a := answers[n]
			n++
			assertEqual(t, a.cursor, r.Header.Get("Last-Event-ID"))
			w.Header().Set("Content-Type", "text/event-stream")
			for name, values := range a.header {
				w.Header()[name] = values
			}
			if a.status > 0 {
				w.WriteHeader(a.status)
			}
			_, _ = w.Write([]byte(a.body))
			if a.hang > 0 {
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(a.hang):
				case <-r.Context().Done():
				}
			}
		}), nil, opts)
		start := time.Now()
		for e, e2 := range c.Stream(t.Context(), 42) {
			var gap *client.GapError
			switch {
			case errors.As(e2, &gap):
				got += fmt.Sprintf("[%d-%d] ", gap.FromID, gap.ToID)
			case e2 != nil:
				require.NoError(t, err, "no event may follow an error")
				err = e2
			default:
				require.NoError(t, err, "no event may follow an error")
				got += fmt.Sprintf("%d ", e.ID)
			}
		}
		took = time.Since(start)
		assertEqual(t, len(answers), n)
	})
	return strings.TrimSpace(got), took, err
}

func assertEqual[T comparable](t *testing.T, want, got T) bool {
	if want != got {
		t.Errorf("want %v, got %v", want, got)
	}
	return want == got
}

func TestStreamProtocol(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		answers  []answer
		want     string
		min, max time.Duration
	}{
		{"ends", []answer{stream(step(1), end(2)), over.at("2")}, "1 2", 0, 0},
		{"nothing at all", []answer{over}, "", 0, 0},
		{"cut between frames", []answer{stream(step(1)), stream(end(2)).at("1"), over.at("2")}, "1 2", 1500 * time.Millisecond, 3 * time.Second},
		{"cut inside a frame", []answer{stream(step(1), step(2)[:30]), stream(step(2), end(3)).at("1"), over.at("3")}, "1 2 3", 1500 * time.Millisecond, 3 * time.Second},
		{"retry is heeded", []answer{stream("retry: 200\n\n", step(1)), stream(end(2)).at("1"), over.at("2")}, "1 2", 100 * time.Millisecond, 200 * time.Millisecond},
		{"what came twice", []answer{stream(step(1), step(2), step(1), step(2), step(3)), stream(step(1), step(3), end(4)).at("3"), over.at("4")}, "1 2 3 4", 0, 3 * time.Second},
		{"a gap", []answer{stream(step(1), step(3)), stream(step(2), step(3), end(4)).at("1"), over.at("4")}, "1 2 3 4", 0, 3 * time.Second},
		{"a gap that stays", []answer{stream(step(1), step(3)), stream(step(3), end(4)).at("1"), over.at("4")}, "1 [2-2] 3 4", 0, 3 * time.Second},
		{"a gap at the start", []answer{stream(step(2)), stream(step(2), end(3)), over.at("3")}, "[1-1] 2 3", 0, 3 * time.Second},
		{"another name", []answer{stream(step(1), "event: other\nid: 9\ndata: {}\n\n", end(2)), over.at("2")}, "1 2", 0, 0},
		{"another run continues", []answer{stream(step(1), end(2)), stream(event(3, 1, "run_queued"), event(4, 2, "run_completed")).at("2"), over.at("4")}, "1 2 3 4", 0, 0},
		{"not JSON", []answer{stream(step(1), "id: 2\ndata: {\n\n"), stream(end(2)).at("1"), over.at("2")}, "1 2", 0, 3 * time.Second},
		{"two ids", []answer{stream(step(1), "id: 3\n"+strings.TrimPrefix(step(2), "id: 2\n")), stream(end(2)).at("1"), over.at("2")}, "1 2", 0, 3 * time.Second},
		{"too long", []answer{stream(step(1), "data: "+strings.Repeat("x", 5<<20)), stream(end(2)).at("1"), over.at("2")}, "1 2", 0, 3 * time.Second},
		{"silence", []answer{{body: step(1), hang: time.Hour}, stream(end(2)).at("1"), over.at("2")}, "1 2", 46 * time.Second, 48 * time.Second},
		{"a gap", []answer{stream(step(1), "event: gap\ndata: {\"from_id\":2,\"to_id\":5}\n\n", step(3), step(6)), stream(end(7)).at("6"), over.at("7")}, "1 [2-5] 3 6 7", 0, 3 * time.Second},
		{"a gap at connect", []answer{problem(410, `{"code":"events_purged","purged_to":5}`), stream(end(6)).at("5"), over.at("6")}, "[1-5] 6", 0, 0},
		{"a gap reported twice", []answer{stream("event: gap\ndata: {\"from_id\":1,\"to_id\":5}\n\n", step(2)),
			problem(410, `{"code":"events_purged","purged_to":5}`).at("2"), stream(end(6)).at("5"), over.at("6")}, "[1-5] 2 6", 0, 3 * time.Second},
		{"two gaps", []answer{problem(410, `{"purged_to":5}`), problem(410, `{"purged_to":7}`).at("5"), stream(end(8)).at("7"), over.at("8")}, "[1-5] [6-7] 8", 0, 0},
		{"a proxy", []answer{{status: 502, header: http.Header{"Content-Type": {"text/html"}}, body: "<html>"}, stream(end(1)), over.at("1")}, "1", 1500 * time.Millisecond, 3 * time.Second},
		{"shutting down", []answer{problem(503, `{}`, "Retry-After", "7"), stream(end(1)), over.at("1")}, "1", 7 * time.Second, 7 * time.Second},
		{"too many", []answer{problem(429, `{}`, "Retry-After", "5"), stream(end(1)), over.at("1")}, "1", 5 * time.Second, 5 * time.Second},
		{"longer and longer", []answer{{status: 500}, {status: 500}, {status: 500}, stream(end(1)), over.at("1")}, "1", (1500 + 3000 + 6000) * time.Millisecond, (3 + 6 + 12) * time.Second},
	} {
		got, took, err := received(t, client.Options{}, c.answers...)
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, got, c.name)
		require.GreaterOrEqual(t, took, c.min, c.name)
		require.LessOrEqual(t, took, c.max, c.name)
	}
}

func TestStreamGivesUp(t *testing.T) {
	t.Parallel()
	bad := answer{status: 500}
	for _, c := range []struct {
		name    string
		opts    client.Options
		answers []answer
		want    string
		status  int // 0: another error
		text    string
	}{
		{"no such trigger", client.Options{}, []answer{problem(404, `{"code":"not_found","detail":"The resource does not exist, or you do not have access to it."}`)}, "", 404, "not_found: The resource does not exist, or you do not have access to it. (request r-1)"},
		{"a revoked key", client.Options{}, []answer{stream(step(1)), problem(401, `{"code":"invalid_token"}`).at("1")}, "1", 401, "invalid_token"},
		{"purged without details", client.Options{}, []answer{problem(410, `{}`)}, "", 410, "410"},
		{"purged before the cursor", client.Options{}, []answer{stream(step(1)), problem(410, `{"purged_to":1}`).at("1")}, "1", 410, "410"},
		{"a page", client.Options{}, []answer{{header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}}}, "", 0, `"text/html"`},
		{"ten retries", client.Options{}, []answer{bad, bad, bad, bad, bad, bad, bad, bad, bad, bad, bad}, "", 500, "500"},
		{"two retries", client.Options{MaxRetries: 2}, []answer{bad, bad, bad}, "", 500, "500"},
		{"two in a row", client.Options{MaxRetries: 2}, []answer{bad, stream("retry: 100\n\n", step(1)), bad.at("1"), bad.at("1")}, "1", 500, "500"},
		{"a sequence again", client.Options{}, []answer{stream(step(1), event(2, 1, "x_step"))}, "1", 0, "sequence"},
	} {
		got, _, err := received(t, c.opts, c.answers...)
		require.Equal(t, c.want, got, c.name)
		require.ErrorContains(t, err, c.text, c.name)
		var answered *client.Error
		require.Equal(t, c.status > 0, errors.As(err, &answered), c.name)
		if c.status > 0 {
			require.Equal(t, c.status, answered.Status, c.name)
		}
	}
}
