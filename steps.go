package webtrigger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// A later attempt of a run must not repeat what an earlier one has done. So a Runner
// divides its work into steps, and the result of each is stored:
//
//	attempt 1   Step "a" ── fn ── record ──► Step "b" ── fn ──╳ the process ends
//	attempt 2   Step "a" ◄─────── record     Step "b" ── fn ── record ──► …
//
// A step whose fn has returned but whose record is not committed is executed again. With
// a start mark, it is not:
//
//	attempt 1   Step "c" ── mark ── fn ──╳
//	attempt 2   Step "c" ◄─ mark: ErrOutcomeUnknown
//
// Records are written as events are: in batches, fenced by the lease. A batch holds the
// records and the events that came before them, so the log never shows more or less than
// the records.

// Limits of the steps of a run.
const (
	MaxStepNameChars   = 255
	MaxStepRecordBytes = 1 << 20  // of one record, in bytes of JSON
	MaxStepsBytes      = 16 << 20 // of all records of a run
	MaxSteps           = 10_000
)

// Step calls fn and records its result in the store. If an earlier attempt of the run has
// recorded the step, Step returns that record without a call of fn. It is for Runners
// whose run may have several attempts ([Options.MaxAttempts]): put each effect and each
// expensive call into a step.
//
// The result is the decoded JSON of the record, on the first attempt too. So T must be a
// type that JSON restores. Maximum: MaxStepRecordBytes for one record, MaxStepsBytes for
// all records of a run. An error of fn is returned and not recorded.
//
// A step is identified by its name and by the number of this call among those with the
// same name in this attempt. So an attempt must call its steps in the same order as the
// ones before. Calls that fail count too: repeat inside of fn, not around Step. The name
// has 1 to MaxStepNameChars characters without control characters.
//
// Step returns when the record is committed. If the lease of the attempt is lost, it
// returns ErrLeaseLost, and nothing is recorded. If ctx has ended, it returns the cause.
// A record that is on its way is then stored nevertheless. If a process ends between the
// effect of fn and the commit of its record, there is no record, and a later attempt calls
// fn again: see [StepOptions.AtMostOnce].
//
// Step is safe for concurrent use. Steps that run at the same time must have different
// names, because the order of calls with one name is part of their identity.
//
// If the Task was not made by a Service, Step calls fn and records nothing.
func Step[T any](ctx context.Context, task *Task, name string, fn func(ctx context.Context) (T, error)) (T, error) {
	return StepWith(ctx, task, name, fn, nil)
}

// StepOptions configures one step. The zero value is that of [Step].
type StepOptions struct {
	// Input is the input of the step, such as the arguments of a call. A fingerprint of
	// its JSON is stored with the step. If a later attempt has another fingerprint, the
	// Runner has changed and its records are not usable: the run fails with the
	// error_message "the recorded steps do not fit this Runner". It fails in the same way
	// if a record does not fit the type of the result. If nil, there is no fingerprint.
	Input any

	// AtMostOnce commits a start mark before fn is called. If a later attempt finds the
	// mark and no record, fn may have been executed: StepWith then returns
	// ErrOutcomeUnknown without a call. The mark costs one more write. An error of fn
	// leaves the mark without a record, so return a final failure as part of the result.
	AtMostOnce bool

	// Started is called before fn and may emit events. They are stored together with
	// the start mark, which the step then has even without AtMostOnce. If an earlier
	// attempt has stored the mark, Started is not called. If Started returns an error,
	// StepWith returns it without a call of fn.
	Started func() error

	// Recorded is called after fn has succeeded and may emit events. They are stored
	// together with the record: a later attempt finds all of them or none. If an earlier
	// attempt has stored the record, Recorded is not called. If it returns an error, the
	// step is recorded, and StepWith returns the error.
	//
	// Started and Recorded must return soon and must not call Step: until they return, no
	// event of the run is stored.
	Recorded func() error
}

// StepWith is [Step] with options. If opts is nil, it is Step.
func StepWith[T any](ctx context.Context, task *Task, name string, fn func(ctx context.Context) (T, error), opts *StepOptions) (T, error) {
	var result, none T
	if opts == nil {
		opts = &StepOptions{}
	}
	record, err := task.journal.step(ctx, name, opts, func(ctx context.Context) (json.RawMessage, error) {
		made, err := fn(ctx)
		if err != nil {
			return nil, err
		}
		record, err := encodeRecord(made)
		if err == nil {
			err = json.Unmarshal(record, &result)
		}
		if err != nil {
			return nil, fmt.Errorf("webtrigger: step %q: record result: %w", name, err)
		}
		return record, nil
	})
	if err != nil {
		return none, err
	}
	if record != nil && json.Unmarshal(record, &result) != nil {
		return none, task.journal.reject(name)
	}
	return result, nil
}

// encodeRecord returns the JSON of a result.
func encodeRecord(result any) (json.RawMessage, error) {
	raw, err := wire.Marshal(result)
	return bytes.ToValidUTF8(raw, []byte("\uFFFD")), err // a json.RawMessage may have anything in its texts
}

// StepRecord is one step of a run as a store keeps it.
type StepRecord struct {
	Name        string // 1 to MaxStepNameChars characters
	Nth         int    // counts from 1 within the name
	Fingerprint string // of the input; "": the step has none

	// Record is the JSON of the result, or nil if only the start mark is stored. It may
	// have the escape \u0000, which the type jsonb of Postgres rejects.
	Record json.RawMessage
}

// size is the number of bytes that the step takes in a batch.
func (r *StepRecord) size() int { return len(r.Name) + len(r.Fingerprint) + len(r.Record) }

// StepStore reads the recorded steps of runs. [WorkStore.AppendEvents] and the other
// writes of a worker store them.
type StepStore interface {
	// Steps returns all recorded steps of a run, ordered by the bytes of their names,
	// then by Nth. If the run does not exist, the list is empty. The steps are deleted
	// with the run. The caller holds the run's lease, so the steps of all earlier leases
	// are visible.
	Steps(ctx context.Context, runID int64) ([]StepRecord, error)
}

// stepKey identifies a step within its run.
type stepKey struct {
	name string
	nth  int
}

// journal is the recorded steps of a run, as one attempt uses them. The nil journal
// records nothing.
type journal struct {
	load   func(ctx context.Context) ([]StepRecord, error) // nil: there are none
	out    *emitter
	misfit func() // ends the run, because the records do not fit

	turn    chan struct{} // holds one while the following are not in use
	loaded  bool
	earlier map[stepKey]StepRecord // of earlier attempts
	counts  map[string]int         // of this attempt's calls, by name
	steps   int                    // of the run
	bytes   int                    // of their records
}

func newJournal(out *emitter, load func(ctx context.Context) ([]StepRecord, error), misfit func()) *journal {
	j := &journal{load: load, out: out, misfit: misfit, turn: make(chan struct{}, 1), counts: make(map[string]int)}
	j.turn <- struct{}{}
	return j
}

// step executes one step. It returns the record of an earlier attempt, or nil if call has
// made the result.
func (j *journal) step(ctx context.Context, name string, opts *StepOptions, call func(ctx context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
	if err := checkStepName(name); err != nil {
		return nil, err
	}
	step := StepRecord{Name: name}
	if opts.Input != nil {
		input, err := wire.Marshal(opts.Input)
		if err != nil {
			return nil, fmt.Errorf("webtrigger: step %q: fingerprint of the input: %w", name, err)
		}
		sum := sha256.Sum256(input)
		step.Fingerprint = hex.EncodeToString(sum[:])
	}
	if j == nil {
		return nil, unrecorded(ctx, opts, call)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	begun, found, err := j.begin(ctx, &step)
	switch {
	case err != nil:
		return nil, err
	case found && begun.Fingerprint != step.Fingerprint:
		return nil, j.reject(name)
	case begun.Record != nil:
		return begun.Record, nil
	case found && opts.AtMostOnce:
		return nil, fmt.Errorf("webtrigger: step %q: %w", name, ErrOutcomeUnknown)
	case !found && (opts.AtMostOnce || opts.Started != nil):
		if err := j.mark(ctx, step, opts); err != nil {
			return nil, err
		}
	}
	if step.Record, err = call(ctx); err != nil {
		return nil, err
	}
	if err := j.reserve(&step); err != nil {
		return nil, err
	}
	stored, err := j.out.step(ctx, step, opts.Recorded)
	if err != nil {
		return nil, err
	}
	return nil, stored.wait(ctx, j.out.ctx)
}

// unrecorded executes a step of a task without a journal.
func unrecorded(ctx context.Context, opts *StepOptions, call func(ctx context.Context) (json.RawMessage, error)) error {
	if opts.Started != nil {
		if err := opts.Started(); err != nil {
			return err
		}
	}
	if _, err := call(ctx); err != nil || opts.Recorded == nil {
		return err
	}
	return opts.Recorded()
}

// begin counts the call and returns what an earlier attempt has stored of its step. The
// first call of a later attempt reads all steps of the run.
func (j *journal) begin(ctx context.Context, step *StepRecord) (begun StepRecord, found bool, err error) {
	select {
	case <-j.turn:
		defer func() { j.turn <- struct{}{} }()
	case <-ctx.Done():
		return begun, false, context.Cause(ctx)
	}
	if !j.loaded && j.load != nil {
		stored, err := j.load(ctx)
		if err != nil {
			return begun, false, err
		}
		j.earlier = make(map[stepKey]StepRecord, len(stored))
		for _, s := range stored {
			j.earlier[stepKey{s.Name, s.Nth}] = s
			j.bytes += len(s.Record)
		}
		j.steps = len(stored)
	}
	j.loaded = true
	j.counts[step.Name]++
	step.Nth = j.counts[step.Name]
	begun, found = j.earlier[stepKey{step.Name, step.Nth}]
	if !found {
		if j.steps == MaxSteps {
			return begun, false, failure(fmt.Sprintf("The run has more than %d steps.", MaxSteps))
		}
		j.steps++
	}
	return begun, found, nil
}

// mark stores the start mark of a step. With AtMostOnce, it waits for the commit.
func (j *journal) mark(ctx context.Context, step StepRecord, opts *StepOptions) error {
	stored, err := j.out.step(ctx, step, opts.Started)
	if err != nil || !opts.AtMostOnce {
		return err
	}
	return stored.wait(ctx, j.out.ctx)
}

// reserve counts the bytes of a record.
func (j *journal) reserve(step *StepRecord) error {
	if len(step.Record) > MaxStepRecordBytes {
		return failure(fmt.Sprintf("The record of the step %q is larger than 1 MiB.", step.Name))
	}
	<-j.turn
	defer func() { j.turn <- struct{}{} }()
	if j.bytes+len(step.Record) > MaxStepsBytes {
		return failure(fmt.Sprintf("The records of the run's steps are larger than 16 MiB, with the step %q.", step.Name))
	}
	j.bytes += len(step.Record)
	return nil
}

// reject ends the run, because a record does not fit the Runner.
func (j *journal) reject(name string) error {
	j.misfit()
	return fmt.Errorf("webtrigger: step %q: %w", name, ErrStepsMismatch)
}

// checkStepName checks the rule of [Step].
func checkStepName(name string) error {
	switch {
	case name == "":
		return errors.New("webtrigger: step: name must not be empty")
	case !utf8.ValidString(name):
		return errors.New("webtrigger: step: name must be valid UTF-8")
	case utf8.RuneCountInString(name) > MaxStepNameChars:
		return fmt.Errorf("webtrigger: step: name must have at most %d characters", MaxStepNameChars)
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return fmt.Errorf("webtrigger: step %q: name must not contain control characters", name)
		}
	}
	return nil
}

// readSteps returns the recorded steps of the run. A store that does not record steps has
// none: this attempt then repeats them.
func (x *execution) readSteps(ctx context.Context) (steps []StepRecord, _ error) {
	err := x.read(ctx, "steps", func(ctx context.Context) (err error) {
		steps, err = x.s.store.Steps(ctx, x.lease.RunID)
		if errors.Is(err, errors.ErrUnsupported) {
			x.log.Warn("steps not recorded", "error", err, "effect", "this attempt repeats the steps of earlier ones")
			return nil
		}
		return err
	})
	if errors.Is(err, errUnreadable) {
		err = failure("The recorded steps of the run could not be read.")
	}
	return steps, err
}

// errUnreadable reports that the store did not answer a read, although it is available.
var errUnreadable = errors.New("webtrigger: read failed")

// read makes a read of the store. While the store is unavailable, it repeats the read
// until ctx ends. data names in the log what is read.
func (x *execution) read(ctx context.Context, data string, do func(context.Context) error) error {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		limited, cancel := context.WithTimeout(ctx, statementTimeout)
		err := do(limited)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !storeAway(err) {
			x.log.Error("run data read failed", "data", data, "error", err)
			return errUnreadable
		}
		x.log.Warn("run data read failed", "data", data, "retry_in", pause, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}
