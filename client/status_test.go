package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/webtriggertest"
)

// takes is a run that takes so long.
func takes(d time.Duration) webtriggertest.Step {
	return func(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		select {
		case <-time.After(d):
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func start(t *testing.T, c *client.Client) int64 {
	t.Helper()
	accepted, err := c.Trigger(t.Context(), "1", client.TriggerRequest{Message: "go"})
	require.NoError(t, err)
	return accepted.TriggerID
}

// Wait returns as the run ends, by few requests.
func TestWait(t *testing.T) {
	t.Parallel()
	core := func(w http.ResponseWriter, r *http.Request, service http.Handler) { // a service that holds nothing back
		r.Header.Del("Prefer")
		service.ServeHTTP(w, r)
	}
	bare := func(w http.ResponseWriter, r *http.Request, service http.Handler) { // without Retry-After
		answer := &discard{header: make(http.Header)}
		core(answer, r, service)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer.body)
	}
	repeat := func(f fault, n int) (list []fault) {
		for range n {
			list = append(list, f)
		}
		return list
	}
	for name, c := range map[string]struct {
		takes    time.Duration
		accepted bool // the service answers 202 until the end
		faults   []fault
		late     time.Duration // at most
		requests int           // at most
	}{
		"at once":                {0, false, nil, time.Second, 1},
		"soon":                   {time.Second, false, nil, 0, 1},
		"within the hour":        {time.Hour, false, nil, 0, 145},
		"on 202":                 {time.Minute, true, nil, 0, 3},
		"by polling":             {time.Minute, false, repeat(core, 1000), 6 * time.Second, 35},
		"by polling on 202":      {time.Minute, true, repeat(core, 1000), 6 * time.Second, 35},
		"by polling in the dark": {time.Minute, false, repeat(bare, 1000), time.Second, 62},
		"over faults":            {2 * time.Minute, false, []fault{lost, rejected(504), silent, nil, cut, rejected(429, "Retry-After", "3")}, 8 * time.Second, 8},
	} {
		inBubble(t, webtrigger.Options{RunTimeout: 2 * time.Hour, AcceptedWhileProcessing: c.accepted}, func(t *testing.T, s *site, cl *client.Client) {
			s.Script.Next(takes(c.takes))
			id := start(t, cl)
			s.faults = c.faults
			status, err := cl.Wait(t.Context(), id)
			require.NoError(t, err, name)
			require.Equal(t, "completed", status.Status, name)
			require.True(t, status.Terminal(), name)
			require.Equal(t, "go", *status.Result, name)
			require.Equal(t, c.takes, status.CompletedAt.Sub(status.CreatedAt), name)
			require.LessOrEqual(t, time.Since(*status.CompletedAt), c.late, name)
			require.LessOrEqual(t, len(s.requests())-1, c.requests, name)
		})
	}
}

// While a run waits for a person, Wait needs no more requests than for a run that works.
func TestWait_runWaitsForInput_needsFewRequests(t *testing.T) {
	t.Parallel()
	inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
		ask := func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
			answer, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Question: "Which account?"})
			if err != nil {
				return nil, err
			}
			return &webtrigger.Result{Text: answer.Text()}, nil
		}
		s.Script.Next(ask)
		s.Script.Next(ask) // after the answer
		id := start(t, c)
		time.AfterFunc(time.Hour, func() {
			_, err := s.AnswerInput(context.Background(), 1, 1, webtrigger.InputAnswer{Answer: json.RawMessage(`"main"`)})
			if err != nil {
				t.Error(err)
			}
		})
		status, err := c.Wait(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, "completed", status.Status)
		require.Equal(t, "main", *status.Result)
		require.LessOrEqual(t, len(s.requests())-1, 150)
	})
}

// A 304 without If-None-Match is an error. A body without a status leaves the status empty.
func TestStatus_responseWithoutStatus_returnsErrorOrEmptyStatus(t *testing.T) {
	t.Parallel()
	inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
		id := start(t, c)
		respond := func(status int) fault {
			return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(status)
				if status == http.StatusOK {
					_, _ = w.Write([]byte("null"))
				}
			}
		}
		s.faults = []fault{respond(http.StatusNotModified)}
		var answered *client.Error
		_, err := c.Status(t.Context(), id)
		require.ErrorAs(t, err, &answered)
		require.Equal(t, http.StatusNotModified, answered.Status)
		s.faults = []fault{respond(http.StatusOK)}
		status, err := c.Status(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, &client.Status{}, status)
		s.faults = []fault{respond(http.StatusOK)}
		status, err = c.Wait(t.Context(), id)
		require.NoError(t, err)
		require.True(t, status.Terminal(), "the next response counts")
	})
}

// A service that is shutting down responds without a delay, although the header claims
// one. The client pauses between its requests.
func TestWaitOnAServiceThatShutsDown(t *testing.T) {
	t.Parallel()
	inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
		s.Script.Next(takes(5 * time.Second))
		id := start(t, c)
		s.CloseStreams()
		status, err := c.Wait(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, "completed", status.Status)
		require.LessOrEqual(t, len(s.requests())-1, 7)
	})
}

// Every terminal status is a result, not an error.
func TestWait_anyEnd_returnsStatus(t *testing.T) {
	t.Parallel()
	inBubble(t, webtrigger.Options{RunTimeout: time.Minute}, func(t *testing.T, s *site, c *client.Client) {
		s.Script.Next(webtriggertest.Fail(errors.New("no such report")))
		status, err := c.Wait(t.Context(), start(t, c))
		require.NoError(t, err)
		require.Equal(t, "failed", status.Status)
		require.Equal(t, "failed", status.RunStatus)
		require.Equal(t, "no such report", *status.ErrorMessage)
		require.Nil(t, status.Result)
		require.Nil(t, status.Usage)

		s.Script.Next(webtriggertest.Hang())
		status, err = c.Wait(t.Context(), start(t, c))
		require.NoError(t, err)
		require.Equal(t, "timed_out", status.RunStatus)
		require.Equal(t, "deadline exceeded", *status.StatusDetail)

		s.Script.Next(func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
			return &webtrigger.Result{Text: "x", Usage: &webtrigger.Usage{InputTokens: 7, OutputTokens: 3}}, nil
		})
		status, err = c.Wait(t.Context(), start(t, c))
		require.NoError(t, err)
		require.Equal(t, &client.Usage{InputTokens: 7, OutputTokens: 3}, status.Usage)
	})
}

func TestWait_rejected_returnsError(t *testing.T) {
	t.Parallel()
	inBubble(t, webtrigger.Options{}, func(t *testing.T, s *site, c *client.Client) {
		var answered *client.Error
		_, err := c.Wait(t.Context(), 99)
		require.ErrorAs(t, err, &answered)
		require.Equal(t, "not_found", answered.Code)

		s.Script.Next(webtriggertest.Hang())
		id := start(t, c)
		time.AfterFunc(10*time.Minute, func() { // in the middle of a request that is held
			keys, err := s.Keys(context.Background(), webtrigger.KeyQuery{AssistantID: "1", Page: webtrigger.Page{}})
			if err == nil {
				_, err = s.RevokeKey(context.Background(), keys[0].ID)
			}
			if err != nil {
				t.Error(err)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = c.Wait(ctx, id)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = c.Wait(t.Context(), id)
		require.ErrorAs(t, err, &answered)
		require.Equal(t, "invalid_token", answered.Code)
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	inBubble(t, webtrigger.Options{Workers: 1}, func(t *testing.T, s *site, c *client.Client) {
		s.Script.Next(webtriggertest.Hang())
		running, queued := start(t, c), start(t, c)
		s.faults = []fault{lost} // and repeated
		require.NoError(t, c.Cancel(t.Context(), queued))
		for _, id := range []int64{queued, running} {
			require.NoError(t, c.Cancel(t.Context(), id))
			status, err := c.Wait(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, "cancelled", status.RunStatus)
			require.NoError(t, c.Cancel(t.Context(), id), "when it has ended")
		}
		var answered *client.Error
		require.ErrorAs(t, c.Cancel(t.Context(), 99), &answered)
		require.Equal(t, 404, answered.Status)
	})
}
