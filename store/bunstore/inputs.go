package bunstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Requests for input. The row of a request changes once, when it is answered, under the
// lock of its run's queue row. A run waits for its newest request, which has no answer.

// inputColumns are what scanInput reads.
const inputColumns = `i.id, i.run_id, i.request, i.created_at, i.expires_at, i.answer, i.answered_at`

// storedRequest is a request as JSON. Its texts have the bytes of JSON values as they are.
type storedRequest struct {
	webtrigger.InputRequest
	Ordinal           int
	Schema, Arguments *string
}

type storedAnswer struct {
	webtrigger.InputAnswer
	Answer *string
	At     *struct{} `json:",omitempty"` // it has a column
}

func scanInput(row scanner) (webtrigger.Input, error) {
	var input webtrigger.Input
	var request string
	var answer sql.NullString
	var answeredAt time.Time
	err := row.Scan(&input.ID, &input.RunID, &request, stamp{&input.CreatedAt}, stamp{&input.ExpiresAt}, &answer, stamp{&answeredAt})
	if err != nil {
		return input, err
	}
	var r storedRequest
	if err := json.Unmarshal([]byte(request), &r); err != nil {
		return input, fmt.Errorf("bunstore: decode request for input: %w", err)
	}
	input.Request, input.Ordinal = r.InputRequest, r.Ordinal
	input.Request.Schema, input.Request.Arguments = rawOf(r.Schema), rawOf(r.Arguments)
	if !answer.Valid {
		return input, nil
	}
	var a storedAnswer
	if err := json.Unmarshal([]byte(answer.String), &a); err != nil {
		return input, fmt.Errorf("bunstore: decode answer: %w", err)
	}
	input.Answer = &a.InputAnswer
	input.Answer.Answer, input.Answer.At = rawOf(a.Answer), answeredAt
	return input, nil
}

// rawOf undoes optional.
func rawOf(text *string) json.RawMessage {
	if text == nil {
		return nil
	}
	return json.RawMessage(*text)
}

// AwaitInput implements [webtrigger.InputStore].
func (s *Store) AwaitInput(ctx context.Context, lease webtrigger.Lease, await webtrigger.Await) (webtrigger.Run, error) {
	return s.release(ctx, "await input", lease, await.Events, func(t *tx, q *queueRow, now time.Time) error {
		return t.await(q, await, now)
	})
}

// await makes a running run waiting.
func (t *tx) await(q *queueRow, await webtrigger.Await, now time.Time) error {
	if err := t.storeStarted(q); err != nil {
		return err
	}
	encoded, err := json.Marshal(storedRequest{InputRequest: await.Request, Ordinal: await.Ordinal,
		Schema: optional(await.Request.Schema), Arguments: optional(await.Request.Arguments)})
	if err != nil {
		return fmt.Errorf("bunstore: encode request for input: %w", err)
	}
	input := webtrigger.Input{RunID: q.runID, Request: await.Request, Ordinal: await.Ordinal, CreatedAt: now,
		ExpiresAt: now.Add(await.Request.ExpiresIn).Truncate(time.Microsecond)}
	err = t.row(t.ctx, `INSERT INTO {inputs} (run_id, created_at, expires_at, request) VALUES ($1, $2, $3, $4) RETURNING id`,
		q.runID, t.at(input.CreatedAt), t.at(input.ExpiresAt), string(encoded)).Scan(&input.ID)
	if err != nil {
		return err
	}
	if err := t.log(q, now, webtrigger.InputRequestedEvent(input)); err != nil {
		return err
	}
	q.running, q.process, q.waiting = false, "", true
	q.wakeAt, q.executed = input.ExpiresAt, await.Executed
	return t.save(q)
}

// AnswerInput implements [webtrigger.InputStore].
func (s *Store) AnswerInput(ctx context.Context, answer webtrigger.NewAnswer) (run webtrigger.Run, _ error) {
	err := s.writeOpen(ctx, "answer input", func(t *tx) (err error) {
		run, err = t.answerInput(answer)
		return err
	})
	return run, err
}

// answerInput stores an answer.
func (t *tx) answerInput(answer webtrigger.NewAnswer) (run webtrigger.Run, _ error) {
	q, err := t.lockOpen(answer.RunID)
	if err != nil && err != sql.ErrNoRows {
		return run, err
	}
	now, err := t.now()
	if err != nil {
		return run, err
	}
	input, err := t.openInput(`id = $1`, answer.InputID)
	switch {
	case err != nil:
		return run, err
	case input.RunID != answer.RunID:
		return run, webtrigger.ErrNotFound
	case input.Answer != nil && !input.Answer.Same(answer.Answer):
		return run, webtrigger.ErrAlreadyAnswered
	case input.Answer != nil:
	case q == nil || !q.waiting || !now.Before(input.ExpiresAt):
		return run, webtrigger.ErrInputClosed
	default:
		if err := t.answer(q, input, answer.Answer, now); err != nil {
			return run, err
		}
	}
	return t.run(answer.RunID)
}

// openInput reads one request for input.
func (t *tx) openInput(condition string, id int64) (webtrigger.Input, error) {
	return scanInput(t.row(t.ctx, `SELECT `+inputColumns+` FROM {inputs} i WHERE `+condition, id))
}

// answer stores the answer to the request of a locked, waiting run and requeues the run.
func (t *tx) answer(q *queueRow, input webtrigger.Input, answer webtrigger.InputAnswer, now time.Time) error {
	encoded, err := json.Marshal(storedAnswer{InputAnswer: answer, Answer: optional(answer.Answer)})
	if err != nil {
		return fmt.Errorf("bunstore: encode answer: %w", err)
	}
	_, err = t.exec(t.ctx, `UPDATE {inputs} SET answer = $2, answered_at = $3 WHERE id = $1`, input.ID, string(encoded), t.at(now))
	if err != nil {
		return err
	}
	answer.At, input.Answer = now, &answer
	if err := t.log(q, now, webtrigger.InputReceivedEvent(input)); err != nil {
		return err
	}
	q.waiting, q.wakeAt, q.waitsSince = false, time.Time{}, now
	q.attempts-- // the next claim continues the attempt
	return errors.Join(t.waits(q), t.save(q), t.audit(0))
}

// expireInput ends or requeues a locked, waiting run whose request has expired. If
// enqueue is false, it does not requeue. It reports whether it changed the run.
func (t *tx) expireInput(q *queueRow, enqueue bool, now time.Time) (changed bool, _ error) {
	input, err := t.openInput(`id = (SELECT max(id) FROM {inputs} WHERE run_id = $1)`, q.runID)
	switch {
	case err != nil && err != sql.ErrNoRows:
		return false, err
	case err == nil && input.Request.DenyOnExpiry && input.Answer == nil:
		if !enqueue {
			return false, nil
		}
		return true, t.answer(q, input, webtrigger.ExpiredAnswer(), now)
	}
	return true, t.end(q, 0, webtrigger.InputTimeout(), nil, now)
}

// Input implements [webtrigger.InputStore].
func (s *Store) Input(ctx context.Context, inputID int64) (webtrigger.Input, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Input{}, err
	}
	defer cancel()
	input, err := scanInput(s.row(ctx, `SELECT `+inputColumns+` FROM {inputs} i WHERE id = $1`, inputID))
	if err != nil {
		return webtrigger.Input{}, s.wrap("read input", err)
	}
	return input, nil
}

// Inputs implements [webtrigger.InputStore].
func (s *Store) Inputs(ctx context.Context, runID int64) ([]webtrigger.Input, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	rows, err := s.rows(ctx, `SELECT `+inputColumns+` FROM {inputs} i WHERE run_id = $1 ORDER BY id`, runID)
	inputs, err := collect(rows, err, scanInput)
	return inputs, s.wrap("list inputs", err)
}

// OpenInputs implements [webtrigger.InputStore].
func (s *Store) OpenInputs(ctx context.Context, runIDs []int64) (map[int64]webtrigger.Input, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	open := make(map[int64]webtrigger.Input)
	rows, err := s.rows(ctx, `SELECT `+inputColumns+` FROM {queue} q JOIN {inputs} i ON i.run_id = q.run_id AND i.answer IS NULL
		WHERE q.run_id {in ids} AND q.state = 'w'`, s.idList(runIDs))
	err = each(rows, err, func(row scanner) error {
		input, err := scanInput(row)
		open[input.RunID] = input
		return err
	})
	return open, s.wrap("list open inputs", err)
}
