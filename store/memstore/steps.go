package memstore

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/webtrigger-go/webtrigger"
)

// stepKey identifies a step within its run.
type stepKey struct {
	name string
	nth  int
}

// note stores steps of a run. A record that exists stays.
func (r *run) note(steps []webtrigger.StepRecord) {
	for _, step := range steps {
		key := stepKey{step.Name, step.Nth}
		if r.steps[key].Record != nil {
			continue
		}
		if r.steps == nil {
			r.steps = make(map[stepKey]webtrigger.StepRecord)
		}
		step.Record = bytes.Clone(step.Record)
		r.steps[key] = step
	}
}

// Steps implements [webtrigger.StepStore].
func (s *Store) Steps(ctx context.Context, runID int64) ([]webtrigger.StepRecord, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	r := s.runs.get(runID)
	if r == nil || len(r.steps) == 0 {
		return nil, nil
	}
	steps := make([]webtrigger.StepRecord, 0, len(r.steps))
	for _, step := range r.steps {
		step.Record = bytes.Clone(step.Record)
		steps = append(steps, step)
	}
	slices.SortFunc(steps, func(a, b webtrigger.StepRecord) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Nth, b.Nth))
	})
	return steps, nil
}
