package load_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger/bench/internal/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, handler http.HandlerFunc) (addr string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestRun(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
		assert.Equal(t, "/path", r.URL.Path)
		served.Add(1)
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, "a body that the client skips")
	})
	req := load.Request("POST", "/path", "secret", []byte(`{}`))
	result, err := load.Run(addr, 3, 50*time.Millisecond, http.StatusAccepted, func(int, int) []byte { return req })
	require.NoError(t, err)
	assert.EqualValues(t, served.Load(), result.Requests)
	assert.Len(t, result.Latencies, result.Requests)
	assert.Positive(t, result.Rate())
}

func TestRunStopsAtAnotherStatus(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"whole": "no such page", "chunked": strings.Repeat("no such page ", 1000)} {
		addr := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, body)
		})
		req := load.Request("GET", "/", "", nil)
		_, err := load.Run(addr, 2, time.Minute, http.StatusOK, func(int, int) []byte { return req })
		require.ErrorContains(t, err, "404", name)
		require.ErrorContains(t, err, "no such page", name)
	}
}

func TestSubscribers(t *testing.T) {
	t.Parallel()
	publish := make(chan struct{})
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-publish
		for range 5 {
			fmt.Fprintf(w, "data: {\"at\":\"%s\"}\n\n", load.Stamp())
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for _, timed := range []bool{false, true} {
		subs, err := load.Subscribe(addr, "/", 2, timed)
		require.NoError(t, err)
		assert.Equal(t, 10, subs.Wait(10, time.Millisecond), "nothing was published yet")
		for range 2 {
			publish <- struct{}{}
		}
		assert.Zero(t, subs.Wait(10, time.Minute))
		assert.Equal(t, 3, subs.Wait(13, 20*time.Millisecond), "three are missing")
		assert.Zero(t, subs.Ended())
		if timed {
			require.Len(t, subs.Latencies(), 10)
			assert.Positive(t, subs.Latencies()[0])
		}
		subs.Reset()
		assert.Equal(t, 1, subs.Wait(1, time.Millisecond))
		subs.Close()
	}
}
