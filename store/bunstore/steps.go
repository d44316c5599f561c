package bunstore

import (
	"context"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// keepRecord ends the insert of steps, which are named "stored": a step without a record
// gets one, and a record that exists stays.
const keepRecord = ` ON CONFLICT (run_id, name, nth) DO UPDATE SET fingerprint = excluded.fingerprint, record = excluded.record
	WHERE stored.record IS NULL`

// withSteps is a statement that appends events, for batches that also have steps: $3 has
// them as entries, and "of" the batches that are not stored yet. Without steps, the insert
// would cost each batch a part of its time.
func withSteps(text, of string) string {
	return strings.Replace(text, "logged AS (", `noted AS (
		INSERT INTO {steps} AS stored (run_id, name, nth, fingerprint, record)
		SELECT h.run_id, x.t, x.k, coalesce(x.c, ''), x.p FROM `+of+` h JOIN `+pgEntries("$3")+` ON x.o = h.ord WHERE h.batch > h.stored`+keepRecord+`
	),
	logged AS (`, 1)
}

var (
	pgAppendStepsText       = withSteps(pgAppendText, "held")
	pgAppendSharedStepsText = withSteps(pgAppendSharedText, "fresh")
)

// stepEntry is a step in the input of a statement. Its record may be NULL.
type stepEntry struct {
	Call        int     `json:"o"`
	Nth         int     `json:"k"`
	Name        string  `json:"t"`
	Fingerprint string  `json:"c,omitempty"`
	Record      *string `json:"p,omitempty"`
}

// appendSteps adds a call's steps to the entries of a statement.
func appendSteps(entries []stepEntry, call int, steps []webtrigger.StepRecord) []stepEntry {
	for _, step := range steps {
		entries = append(entries, stepEntry{call, step.Nth, step.Name, step.Fingerprint, optional(step.Record)})
	}
	return entries
}

func weighSteps(steps []webtrigger.StepRecord) (n int) {
	for i := range steps {
		n += 64 + len(steps[i].Name) + len(steps[i].Fingerprint) + len(steps[i].Record)
	}
	return n
}

// note stores the steps of a run.
func (t *tx) note(runID int64, steps []webtrigger.StepRecord) error {
	for _, step := range steps {
		_, err := t.exec(t.ctx, `INSERT INTO {steps} AS stored (run_id, name, nth, fingerprint, record) VALUES ($1, $2, $3, $4, $5)`+keepRecord,
			runID, step.Name, step.Nth, step.Fingerprint, text(step.Record))
		if err != nil {
			return err
		}
	}
	return nil
}

const stepsText = `SELECT name, nth, fingerprint, record FROM {steps} WHERE run_id = $1 ORDER BY name, nth`

// Steps implements [webtrigger.StepStore]. The statement is planned for each call: a
// prepared one would keep the plan of an empty table.
func (s *Store) Steps(ctx context.Context, runID int64) ([]webtrigger.StepRecord, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	rows, err := s.unprepared().rows(ctx, stepsText, runID)
	steps, err := collect(rows, err, func(row scanner) (step webtrigger.StepRecord, _ error) {
		return step, row.Scan(&step.Name, &step.Nth, &step.Fingerprint, raw{&step.Record})
	})
	return steps, s.wrap("read steps", err)
}
