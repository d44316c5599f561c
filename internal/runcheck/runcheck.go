// Package runcheck checks what is stored of runs, for tests whose Runners name each of
// their calls: in the events of type x_step ({"call": …}) and in the result.
package runcheck

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// Lister lists runs, as a store and a service do.
type Lister interface {
	Runs(ctx context.Context, query webtrigger.RunQuery) ([]webtrigger.Run, error)
}

// All returns all runs that a query selects, the newest first. A list has no results.
func All(ctx context.Context, from Lister, query webtrigger.RunQuery) (all []webtrigger.Run, _ error) {
	query.Page.Limit = webtrigger.MaxPageSize
	for {
		page, err := from.Runs(ctx, query)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < query.Page.Limit {
			return all, nil
		}
		query.Page.Before = page[len(page)-1].ID
	}
}

// Fault is what is wrong with a run.
type Fault struct {
	Late bool // stored by an old call after another claim; otherwise: the end or the order is wrong
	Text string
}

// Events checks all events of a run that has ended: no gap, one end, and after each claim
// only one call has stored events, which no earlier claim had. claimed is called with
// the last call before each claim but the first; "": it has stored no event.
func Events(run webtrigger.Run, events []webtrigger.Event, claimed func(after string)) (faults []Fault) {
	fault := func(late bool, format string, args ...any) {
		faults = append(faults, Fault{late, fmt.Sprintf("run %d: ", run.ID) + fmt.Sprintf(format, args...)})
	}
	var seen []string // calls, in the order of their events
	current := ""     // none since the last claim
	claims, ends := 0, 0
	for i, e := range events {
		if int(e.Sequence) != i+1 {
			fault(false, "event %d has sequence %d", i+1, e.Sequence)
		}
		switch e.Type {
		case "run_started":
			if claims++; claims > 1 && claimed != nil {
				claimed(current)
			}
			current = ""
		case "x_step":
			call := callOf(e)
			switch {
			case current == "" && slices.Contains(seen, call):
				fault(true, "an event of call %s after another claim", call)
			case current == "":
				seen, current = append(seen, call), call
			case current != call:
				fault(true, "events of calls %s and %s under one claim", current, call)
			}
		case "run_completed", "run_failed", "run_cancelled", "run_timed_out":
			ends++
		}
	}
	if len(events) == 0 {
		fault(false, "it has no events")
		return faults
	}
	if last := events[len(events)-1]; ends != 1 || string(last.Type) != "run_"+string(run.Status) {
		fault(false, "%d ends, the last event is %s, the status %s", ends, last.Type, run.Status)
	}
	if run.Status == webtrigger.RunCompleted && run.Result != current {
		fault(true, "call %q has ended it, the call of the last claim is %q", run.Result, current)
	}
	return faults
}

func callOf(e webtrigger.Event) string {
	var payload struct{ Call json.RawMessage }
	if err := json.Unmarshal(e.Payload, &payload); err != nil {
		return err.Error()
	}
	return strings.Trim(string(payload.Call), `"`)
}
