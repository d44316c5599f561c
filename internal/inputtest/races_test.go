package inputtest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// An answer and a cancellation, which have both seen the waiting run, reach the store one
// after the other. The first one wins.
func TestAnswerInput_racesWithCancel_firstWins(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for name, c := range map[string]struct {
		then         func(ctx context.Context) error
		cancelFirst  bool
		atStatus     webtrigger.RunStatus // when the loser reaches the store
		answer       string
		cancellation string
		end          webtrigger.RunStatus
	}{
		"cancelled first":               {nil, true, webtrigger.RunCancelled, inputClosed, cancelled, webtrigger.RunCancelled},
		"answered first, then running":  {hang, false, webtrigger.RunRunning, accepted, cancelRequested, webtrigger.RunCancelled},
		"answered first, and completed": {nil, false, webtrigger.RunCompleted, accepted, completed, webtrigger.RunCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.then = c.then
			one, two := s.start(nil), s.start(nil)
			input := s.waits(one)
			answers, cancellations := one.doors.close("AnswerInput"), two.doors.close("RequestStop")
			answer := later(func() string { return s.answer(one, input, "main") })
			cancellation := later(func() string { return s.post(two, input.RunID, "cancel", "") })
			answers.holds(t, 1)
			cancellations.holds(t, 1)
			first, second := answers, cancellations
			if c.cancelFirst {
				first, second = second, first
			}
			close(first.open)
			s.status(one, input.RunID, c.atStatus)
			close(second.open)
			require.Equal(t, c.answer, <-answer)
			require.Equal(t, c.cancellation, <-cancellation)
			if c.cancelFirst {
				require.Equal(t, c.end, s.ends(one, input.RunID, 0).Status)
				s.resumed(input.RunID, 1)
				return
			}
			require.Equal(t, c.end, s.ends(one, input.RunID, 1).Status)
			s.resumed(input.RunID, 2, "main")
		})
	}
}

// An answer and a cancellation wait for the same lock in the database, and continue at the
// same instant. Each round has one winner.
func TestAnswerInput_racesWithCancelForTheLock_oneWins(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.start(nil), s.start(nil)
	for range 2 {
		input := s.waits(one)
		unlock := s.lock(one, input.RunID)
		answer := later(func() string { return s.answer(one, input, "main") })
		cancellation := later(func() string { return s.post(two, input.RunID, "cancel", "") })
		eventually(t, func() bool { // the cancellation queues for the row; the answer tries again and again
			var blocked int
			require.NoError(t, one.DB.QueryRowContext(t.Context(),
				`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&blocked))
			return blocked > 0
		})
		unlock()
		switch <-answer {
		case accepted:
			require.Contains(t, []string{cancelled, cancelRequested, completed}, <-cancellation)
			run := s.ends(one, input.RunID, 1)
			require.Contains(t, []webtrigger.RunStatus{webtrigger.RunCancelled, webtrigger.RunCompleted}, run.Status)
		case inputClosed:
			require.Equal(t, cancelled, <-cancellation)
			require.Equal(t, webtrigger.RunCancelled, s.ends(one, input.RunID, 0).Status)
			s.resumed(input.RunID, 1)
		default:
			t.Fatal("an answer is accepted, or too late")
		}
	}
}

// lock locks a run in the database until unlock.
func (s *site) lock(p *process, runID int64) (unlock func()) {
	s.t.Helper()
	tx, err := p.DB.BeginTx(s.t.Context(), nil)
	require.NoError(s.t, err)
	var state string
	require.NoError(s.t, tx.QueryRowContext(s.t.Context(), `SELECT state FROM webtrigger_queue WHERE run_id = ? FOR UPDATE`, runID).Scan(&state))
	return func() { require.NoError(s.t, tx.Rollback()) }
}

// An answer has seen the open request when it expires. What reaches the store first, the
// answer, the instant of expiry or the sweep, decides.
func TestAnswerInput_racesWithExpiry_firstWins(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]func(t *testing.T, s *site, one *process, input webtrigger.Input, answers, sweeps *door) (answer string){
		"swept first": func(t *testing.T, s *site, one *process, input webtrigger.Input, answers, sweeps *door) string {
			answer := later(func() string { return s.answer(one, input, "main") })
			answers.holds(t, 1)
			close(sweeps.open)
			s.status(one, input.RunID, webtrigger.RunTimedOut)
			close(answers.open)
			return <-answer
		},
		"expired, and not swept yet": func(t *testing.T, s *site, one *process, input webtrigger.Input, answers, sweeps *door) string {
			answer := later(func() string { return s.answer(one, input, "main") })
			answers.holds(t, 1)
			past(t, input)
			close(answers.open)
			got := <-answer
			require.Equal(t, webtrigger.RunWaiting, s.status(one, input.RunID, webtrigger.RunWaiting).Status)
			close(sweeps.open)
			return got
		},
		"expired while the run was locked": func(t *testing.T, s *site, one *process, input webtrigger.Input, answers, sweeps *door) string {
			unlock := s.lock(one, input.RunID)
			close(answers.open)
			close(sweeps.open)
			answer := later(func() string { return s.answer(one, input, "main") })
			past(t, input)
			unlock()
			return <-answer
		},
		"answered first": func(t *testing.T, s *site, one *process, input webtrigger.Input, answers, sweeps *door) string {
			close(answers.open)
			got := s.answer(one, input, "main")
			past(t, input)
			close(sweeps.open)
			return got
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.ask.ExpiresIn = 2 * time.Second
			one := s.start(nil)
			answers, sweeps := one.doors.close("AnswerInput"), one.doors.close("SweepRuns")
			input := s.waits(one)
			answer := c(t, s, one, input, answers, sweeps)
			if name == "answered first" {
				require.Equal(t, accepted, answer)
				require.Equal(t, webtrigger.RunCompleted, s.ends(one, input.RunID, 1).Status)
				s.resumed(input.RunID, 2, "main")
				return
			}
			require.Equal(t, inputClosed, answer)
			run := s.ends(one, input.RunID, 0)
			require.Equal(t, webtrigger.RunTimedOut, run.Status)
			require.Equal(t, "input timeout", run.StatusDetail)
			s.resumed(input.RunID, 1)
		})
	}
}

// past waits until a request has expired.
func past(t *testing.T, input webtrigger.Input) {
	t.Helper()
	time.Sleep(time.Until(input.ExpiresAt) + 20*time.Millisecond)
}

// An approval expires as denied while a person approves it: the sweep's answer counts.
func TestAnswerInput_approvalExpiredAsDenied_isAlreadyAnswered(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ask = webtrigger.InputRequest{Tool: "refund", Arguments: []byte(`{}`), ExpiresIn: time.Second, DenyOnExpiry: true}
	one := s.start(nil)
	answers := one.doors.close("AnswerInput")
	input := s.waits(one)
	answer := later(func() string { return s.decide(one, input, webtrigger.DecisionApprove) })
	answers.holds(t, 1)
	require.Equal(t, "deny", s.ends(one, input.RunID, 1).Result)
	close(answers.open)
	require.Equal(t, alreadyAnswered, <-answer)
	s.resumed(input.RunID, 2, "deny")
}
