package inputtest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/replicas"
)

// Of simultaneous different answers over three replicas, exactly one is accepted. Its run
// continues once, with that answer. make input-long has 1,000 answers.
func TestAnswerInput_simultaneousOverReplicas_oneIsAccepted(t *testing.T) {
	t.Parallel()
	n := replicas.Number(t, "WEBTRIGGER_INPUT_ANSWERS", 60)
	s := newSite(t)
	all := []*process{s.start(nil), s.start(nil), s.start(nil)}
	input := s.waits(all[0])
	var doors []*door
	for _, p := range all { // each request has seen the open request before the first answer is written
		doors = append(doors, p.doors.close("AnswerInput"))
	}
	answers, took := make([]string, n), make([]time.Duration, n)
	var opened time.Time
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() {
			answers[i] = s.answer(all[i%3], input, fmt.Sprint("answer ", i))
			took[i] = time.Since(opened)
		})
	}
	eventually(t, func() bool {
		arrived := 0
		for _, d := range doors {
			arrived += int(d.arrived.Load())
		}
		return arrived >= n
	})
	opened = time.Now()
	for _, d := range doors {
		close(d.open)
	}
	done.Wait()
	winner := slices.Index(answers, accepted)
	require.GreaterOrEqual(t, winner, 0)
	for i, answer := range answers {
		if i != winner {
			require.Equal(t, alreadyAnswered, answer)
		}
	}
	text := fmt.Sprint("answer ", winner)
	run := s.ends(all[0], input.RunID, 1)
	require.Equal(t, webtrigger.RunCompleted, run.Status)
	require.Equal(t, text, run.Result)
	require.Equal(t, 1, run.Attempts)
	s.resumed(run.ID, 2, text)
	slices.Sort(took)
	t.Logf("%d answers, 1 accepted, %d rejected, %d times 503; p50 %v, p99 %v, last %v", n, n-1, s.unavailable.Load(), took[n/2], took[n*99/100], took[n-1])
	require.Equal(t, accepted, s.answer(all[1], input, text), "the same answer again, after the end")
}
