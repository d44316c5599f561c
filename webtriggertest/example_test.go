package webtriggertest_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/webtriggertest"
)

// A host's own test: its mount, its session, and the whole way of a trigger.
func Example() {
	_ = func(t *testing.T) { // in your code: func TestMount(t *testing.T)
		mountTest(t)
	}
}

// TestMount runs the example.
func TestMount(t *testing.T) { mountTest(t) }

func mountTest(t *testing.T) {
	receiver := webtriggertest.NewReceiver(t)
	s := webtriggertest.New(t, &webtriggertest.Options{Receiver: receiver})
	s.Script.Next(webtriggertest.Emit("x_thinking", map[string]any{}), webtriggertest.Say("Done"))

	mux := http.NewServeMux() // yours
	mux.Handle("/api/v1/", s)
	mux.Handle("/conversations/", s.EventsHandler(func(r *http.Request, _ webtrigger.Access) error {
		if r.Header.Get("Cookie") != "session=mine" {
			return webtrigger.ErrUnauthenticated
		}
		return nil
	}))
	server := httptest.NewServer(mux)
	defer server.Close()

	r, err := http.NewRequest(http.MethodPost, server.URL+"/api/v1/assistants/1/web-trigger",
		strings.NewReader(`{"message": "hello", "callback_url": "`+receiver.URL+`"}`))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+s.Key)
	r.Header.Set("Content-Type", "application/json")
	answer, err := server.Client().Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusAccepted, answer.StatusCode)

	callback := receiver.Next()
	require.Equal(t, "Done", *callback.ResultText)

	r, err = http.NewRequest(http.MethodGet, server.URL+"/conversations/1/agent-events", nil)
	require.NoError(t, err)
	r.Header.Set("Cookie", "session=mine")
	var types []string
	for _, event := range webtriggertest.ReadStream(t, server.Client(), r) {
		types = append(types, event.Type)
	}
	require.Equal(t, []string{"run_queued", "run_started", "x_thinking", "run_completed"}, types)
}

// A script has the steps of each run. Wait returns the ended run.
func ExampleScript() {
	_ = func(t *testing.T) { // in your code: func TestFailure(t *testing.T)
		failureTest(t)
	}
}

// TestFailure runs the example of Script.
func TestFailure(t *testing.T) { failureTest(t) }

func failureTest(t *testing.T) {
	s := webtriggertest.New(t, nil)
	s.Script.Next(webtriggertest.Fail(errors.New("the model is unavailable")))
	run, err := s.Trigger(t.Context(), webtriggertest.Assistant, webtrigger.TriggerRequest{Message: "hello"})
	require.NoError(t, err)
	run = s.Wait(t, run.ID)
	require.Equal(t, webtrigger.RunFailed, run.Status)
	require.Equal(t, "the model is unavailable", run.ErrorMessage)
}
