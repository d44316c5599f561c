package runcheck_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/runcheck"
)

// log makes events: a type, or the name of a call.
func log(steps ...string) (events []webtrigger.Event) {
	for i, step := range steps {
		e := webtrigger.Event{Sequence: int64(i + 1), Type: webtrigger.EventType(step), Payload: json.RawMessage(`{}`)}
		if len(step) == 1 {
			e.Type, e.Payload = "x_step", json.RawMessage(fmt.Sprintf(`{"call": %q}`, step))
		}
		events = append(events, e)
	}
	return events
}

func TestEvents_findsEachKindOfFault(t *testing.T) {
	t.Parallel()
	gap := log("run_queued", "run_started", "a", "run_completed")
	gap[2].Sequence++
	for name, test := range map[string]struct {
		events []webtrigger.Event
		late   []bool // of the faults
	}{
		"none":               {log("run_queued", "run_started", "b", "run_requeued", "run_started", "a", "a", "run_completed"), nil},
		"a gap":              {gap, []bool{false}},
		"no end":             {log("run_queued", "run_started", "a"), []bool{false}},
		"two ends":           {log("run_queued", "run_started", "a", "run_completed", "run_completed"), []bool{false}},
		"another end":        {log("run_queued", "run_started", "a", "run_failed"), []bool{false}},
		"an event after it":  {log("run_queued", "run_started", "a", "run_completed", "a"), []bool{false}},
		"no events":          {nil, []bool{false}},
		"two calls":          {log("run_queued", "run_started", "a", "b", "run_completed"), []bool{true}},
		"an old call":        {log("run_queued", "run_started", "b", "run_started", "a", "b", "run_completed"), []bool{true}},
		"an old call, first": {log("run_queued", "run_started", "a", "run_started", "b", "run_started", "a", "run_completed"), []bool{true, true}},
		"the end of a call":  {log("run_queued", "run_started", "a", "run_started", "b", "run_completed"), []bool{true}},
		"the end of no call": {log("run_queued", "run_started", "run_completed"), []bool{true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := webtrigger.Run{ID: 1, Status: webtrigger.RunCompleted, Result: "a"}
			var late []bool
			for _, f := range runcheck.Events(run, test.events, nil) {
				late = append(late, f.Late)
			}
			require.Equal(t, test.late, late)
		})
	}
}
