package inputtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// A run begins to wait while its process drains. The drain waits until the request is
// stored, and an answer continues the run in another process.
func TestAskInput_drain_storesTheRequest(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := s.start(nil)
	waits := one.doors.close("AwaitInput")
	run := s.trigger(one)
	waits.holds(t, 1)
	drained := one.Drain()
	select {
	case <-drained:
		t.Fatal("the drain must wait until the request is stored")
	case <-time.After(50 * time.Millisecond):
	}
	close(waits.open)
	<-drained
	s.status(one, run.ID, webtrigger.RunWaiting)
	inputs, err := one.Store.Inputs(t.Context(), run.ID)
	require.NoError(t, err)
	require.Equal(t, accepted, s.answer(one, inputs[0], "main"), "by a process that has drained")
	require.Equal(t, "main", s.ends(s.start(nil), run.ID, 1).Result)
	s.resumed(run.ID, 2, "main")
}

// A process drains while it stores an answer. Another process continues the run.
func TestAnswerInput_racesWithDrain_anotherContinuesTheRun(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := s.start(nil)
	input := s.waits(one)
	answers := one.doors.close("AnswerInput")
	answer := later(func() string { return s.answer(one, input, "main") })
	answers.holds(t, 1)
	<-one.Drain()
	close(answers.open)
	require.Equal(t, accepted, <-answer)
	two := s.start(nil)
	require.Equal(t, "main", s.ends(two, input.RunID, 1).Result)
	s.resumed(input.RunID, 2, "main")
	require.Equal(t, alreadyAnswered, s.answer(two, input, "reserve"))
}

// A process leaves after it has continued the run with the answer: by a drain, which
// requeues the run, or without one, so that it is swept. The next attempt has the same answer.
func TestAnswerInput_processLeavesWithTheRun_answerIsKept(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"drained": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			resumed, stay := make(chan struct{}, 9), make(chan struct{})
			s.then = func(ctx context.Context) error {
				resumed <- struct{}{}
				select {
				case <-stay:
					return nil
				case <-ctx.Done():
					return errors.New("interrupted")
				}
			}
			one := s.start(nil)
			input := s.waits(one)
			require.Equal(t, accepted, s.answer(one, input, "main"))
			select {
			case <-resumed:
			case <-time.After(patience):
				t.Fatal("the Runner must get the answer")
			}
			if killed {
				<-one.Kill()
			} else {
				<-one.Drain()
			}
			close(stay)
			two := s.start(nil)
			run := s.ends(two, input.RunID, 1)
			require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
			require.Equal(t, "main", run.Result)
			s.resumed(run.ID, 3, "main", "main")
			require.Equal(t, alreadyAnswered, s.answer(two, input, "reserve"))
		})
	}
}

// The process that stored an answer is killed before it responds. Another one continues the
// run, and accepts the answer that the client repeats.
func TestAnswerInput_processKilledBeforeItResponds_anotherContinuesTheRun(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := s.start(nil)
	input := s.waits(one)
	claims, responses := one.doors.close("ClaimRuns"), one.doors.close("after AnswerInput")
	lost := later(func() string {
		return s.post(one, input.RunID, "input", fmt.Sprintf(`{"request_id": %d, "answer": "main"}`, input.ID))
	})
	responses.holds(t, 1)
	dead := one.Kill()
	close(claims.open)
	close(responses.open)
	<-dead
	<-lost
	two := s.start(nil)
	require.Equal(t, accepted, s.answer(two, input, "main"), "the client repeats its answer")
	require.Equal(t, alreadyAnswered, s.answer(two, input, "reserve"))
	run := s.ends(two, input.RunID, 1)
	require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
	require.Equal(t, "main", run.Result)
	require.Equal(t, 1, run.Attempts)
	s.resumed(run.ID, 2, "main")
}
