package webtriggertest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/webtriggertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func trigger(t *testing.T, s *webtriggertest.Service, request webtrigger.TriggerRequest) webtrigger.Run {
	t.Helper()
	run, err := s.Trigger(t.Context(), webtriggertest.Assistant, request)
	require.NoError(t, err)
	return run
}

func TestScript(t *testing.T) {
	t.Parallel()
	s := webtriggertest.New(t, nil)
	ready := make(chan struct{})
	s.Script.Next(webtriggertest.Emit("x_step", map[string]int{"n": 1}), webtriggertest.WaitFor(ready), webtriggertest.Say("done"))
	said := trigger(t, s, webtrigger.TriggerRequest{Message: "one"})
	close(ready)
	require.Equal(t, "done", s.Wait(t, said.ID).Result)
	s.Script.Next(webtriggertest.Fail(errors.New("no luck")))
	failed := s.Wait(t, trigger(t, s, webtrigger.TriggerRequest{Message: "two"}).ID)
	require.Equal(t, webtrigger.RunFailed, failed.Status)
	require.Equal(t, "no luck", failed.ErrorMessage)
	require.Equal(t, "three", s.Wait(t, trigger(t, s, webtrigger.TriggerRequest{Message: "three"}).ID).Result)
	s.Script.Next(webtriggertest.Hang())
	hanging := trigger(t, s, webtrigger.TriggerRequest{Message: "four"})
	_, err := s.CancelRun(t.Context(), hanging.ID, "enough")
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunCancelled, s.Wait(t, hanging.ID).Status)
	require.Equal(t, "one", s.Script.Tasks()[0].Prompt)
}

func TestService_requeue_startsAnAttemptWithTheRecordedSteps(t *testing.T) {
	t.Parallel()
	s := webtriggertest.New(t, &webtriggertest.Options{Service: webtrigger.Options{MaxAttempts: 2}})
	calls, recorded := 0, make(chan struct{}, 2)
	step := func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		_, err := webtrigger.Step(ctx, task, "charge", func(context.Context) (int, error) { calls++; return calls, nil })
		recorded <- struct{}{}
		return nil, err
	}
	s.Script.Next(step, webtriggertest.Hang())
	s.Script.Next(step, webtriggertest.Say("done"))
	run := trigger(t, s, webtrigger.TriggerRequest{Message: "go"})
	<-recorded
	s.Requeue(t, run.ID)
	require.Equal(t, "done", s.Wait(t, run.ID).Result)
	require.Equal(t, 1, calls)
}

func TestReceiver(t *testing.T) {
	t.Parallel()
	receiver := webtriggertest.NewReceiver(t)
	s := webtriggertest.New(t, &webtriggertest.Options{Receiver: receiver})
	receiver.Fault(webtriggertest.Status(http.StatusTeapot), webtriggertest.Close(), webtriggertest.Delay(time.Millisecond))
	for _, want := range []webtrigger.DeliveryState{webtrigger.DeliveryFailed, webtrigger.DeliveryFailed, webtrigger.DeliveryDelivered} {
		run := trigger(t, s, webtrigger.TriggerRequest{Message: "hello", CallbackURL: receiver.URL + "/hook?a=1"})
		callback := receiver.Next()
		require.Equal(t, run.Key, callback.RunKey)
		require.Equal(t, "hello", *callback.ResultText)
		require.Eventually(t, func() bool {
			ended, err := s.RunByID(t.Context(), run.ID)
			return err == nil && ended.Callback.State == want
		}, 30*time.Second, time.Millisecond, want)
	}
	require.Len(t, receiver.Callbacks(), 3)
}

// A host tests that its Runner continues a conversation.
func TestConverse_sameKey_continuesConversation(t *testing.T) {
	t.Parallel()
	s := webtriggertest.New(t, nil)
	s.Script.Next(webtriggertest.Say("Refunds take five days."))
	s.Script.Next(webtriggertest.SayHistory())
	first := s.Converse(t, "ticket 4711", "How long does a refund take?")
	second := s.Converse(t, "ticket 4711", "And then?")
	require.Equal(t, first.ConversationID, second.ConversationID)
	require.Equal(t, "user: How long does a refund take?\nassistant: Refunds take five days.", second.Result)
	require.NotEqual(t, first.ConversationID, s.Converse(t, "ticket 4712", "Hello").ConversationID)
	tasks := s.Script.Tasks()
	require.Empty(t, tasks[0].History)
	require.Len(t, tasks[1].History, 2)
	var said []string
	for _, m := range s.Transcript(t, first.ConversationID) {
		said = append(said, m.Content)
	}
	require.Equal(t, []string{"How long does a refund take?", first.Result, "And then?", second.Result}, said)
}

func TestClock(t *testing.T) {
	t.Parallel()
	clock := webtriggertest.NewClock(time.Now())
	s := webtriggertest.New(t, &webtriggertest.Options{Clock: clock})
	_, key, err := s.CreateKey(t.Context(), webtriggertest.Assistant, webtrigger.KeySpec{Name: "short", ExpiresAt: clock.Now().Add(time.Hour)})
	require.NoError(t, err)
	read := func() int {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/web-triggers/1/status", nil)
		r.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusNotFound, read())
	clock.Advance(time.Hour)
	require.Equal(t, http.StatusUnauthorized, read())
}

// A stream with a missing or repeated event, a wrong order or a gap frame ends the test
// that reads it. So does a response that is not a stream.
func TestReadStream_invalidStream_endsTest(t *testing.T) {
	t.Parallel()
	frame := func(id, run, sequence int) string {
		return fmt.Sprintf("id: %d\ndata: {\"id\":%d,\"run_id\":%d,\"sequence\":%d}\n\n", id, id, run, sequence)
	}
	for name, c := range map[string]struct {
		stream string
		ok     bool
	}{
		"whole":       {frame(1, 1, 1) + ": heartbeat\n\n" + frame(3, 2, 1) + frame(7, 1, 2), true},
		"missing":     {frame(1, 1, 1) + frame(3, 1, 3), false},
		"late start":  {frame(2, 1, 2), false},
		"repeat":      {frame(1, 1, 1) + frame(1, 1, 1), false},
		"order":       {frame(2, 1, 1) + frame(1, 2, 1), false},
		"gap":         {frame(1, 1, 1) + "event: gap\ndata: {}\n\n", false},
		"another id":  {strings.Replace(frame(1, 1, 1), "id: 1", "id: 2", 1), false},
		"not JSON":    {"data: x\n\n", false},
		"not started": {"", true},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write([]byte(c.stream))
		}))
		ended := new(watched)
		ended.TB = t
		func() {
			defer func() { _ = recover() }()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
			require.NoError(t, err)
			webtriggertest.ReadStream(ended, server.Client(), r)
		}()
		require.Equal(t, c.ok, !ended.failed, name)
		server.Close()
	}
}

// watched is a test that notes its end instead of ending.
type watched struct {
	testing.TB
	failed bool
}

func (w *watched) Helper() {}
func (w *watched) Fatalf(string, ...any) {
	w.failed = true
	panic("ended")
}
