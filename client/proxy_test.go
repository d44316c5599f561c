package client_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
)

// cdn responds with a page, as a CDN in front of the service does.
func cdn(status int) fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<!doctype html><title>Error</title> <p>origin trouble")
	}
}

// calls are the four calls of a client. Each needs one request.
var calls = map[string]func(t *testing.T, c *client.Client, id int64) error{
	"Trigger": func(t *testing.T, c *client.Client, _ int64) error {
		_, err := c.Trigger(t.Context(), "1", client.TriggerRequest{Message: "go"})
		return err
	},
	"Wait": func(t *testing.T, c *client.Client, id int64) error {
		_, err := c.Wait(t.Context(), id)
		return err
	},
	"Cancel": func(t *testing.T, c *client.Client, id int64) error { return c.Cancel(t.Context(), id) },
	"Stream": func(t *testing.T, c *client.Client, id int64) error {
		for _, err := range c.Stream(t.Context(), id) {
			if err != nil {
				return err
			}
		}
		return nil
	},
}

func TestClient_temporaryStatusOfProxy_retries(t *testing.T) {
	t.Parallel()
	for name, call := range calls {
		inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
			id := start(t, c)
			for _, status := range []int{408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 525, 527, 529, 530, 598, 599} {
				s.faults = []fault{cdn(status), cdn(status)}
				before := s.runs(t)
				require.NoError(t, call(t, c, id), "%s: %d", name, status)
				require.Empty(t, s.faults, "%s: %d", name, status)
				if name == "Trigger" {
					require.Equal(t, before+1, s.runs(t), "%s: %d", name, status)
				}
			}
		})
	}
}

func TestClient_lastingStatusOfProxy_returnsErrorWithoutPage(t *testing.T) {
	t.Parallel()
	for name, call := range calls {
		inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
			id := start(t, c)
			for _, status := range []int{400, 403, 404, 413, 501, 505, 506, 508, 510, 511, 526} {
				s.faults = []fault{cdn(status), cdn(status)}
				err := call(t, c, id)
				require.EqualError(t, err, fmt.Sprintf(
					`client: status %d: response of type "text/html" is not a problem of the service: check the proxy or CDN in front of it`, status), name)
				require.Len(t, s.faults, 1, "%s: %d must not be retried", name, status)
			}
		})
	}
}

func TestClient_retriesUsedUp_returnsErrorWithoutPage(t *testing.T) {
	t.Parallel()
	for name, call := range calls {
		inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
			id := start(t, c)
			for range client.DefaultMaxRetries + 1 {
				s.faults = append(s.faults, cdn(522))
			}
			err := call(t, c, id)
			require.ErrorContains(t, err, "client: status 522: response of type", name)
			require.NotContains(t, err.Error(), "origin trouble", name)
		})
	}
}

func TestError_problemOfAnotherShape_isNotTheService(t *testing.T) {
	t.Parallel()
	inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
		s.faults = []fault{func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(403)
			_, _ = io.WriteString(w, `{"code": 1020, "detail": "denied by a rule"}`)
		}}
		_, err := c.Trigger(t.Context(), "1", client.TriggerRequest{Message: "go"})
		require.ErrorContains(t, err, "client: status 403: response of type")
	})
}

// A page with status 200 is not a response of the service either.
func TestClient_pageWithStatus200_returnsErrorWithType(t *testing.T) {
	t.Parallel()
	for name, call := range calls {
		inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
			id := start(t, c)
			s.faults = []fault{cdn(200)}
			err := call(t, c, id)
			require.ErrorContains(t, err, "text/html", name)
			require.NotContains(t, err.Error(), "origin trouble", name)
		})
	}
}
