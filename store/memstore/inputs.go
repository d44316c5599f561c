package memstore

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// openInput returns the request for which a waiting run waits.
func (r *run) openInput() *webtrigger.Input { return r.inputs[len(r.inputs)-1] }

// AwaitInput implements [webtrigger.InputStore].
func (s *Store) AwaitInput(ctx context.Context, lease webtrigger.Lease, await webtrigger.Await) (webtrigger.Run, error) {
	return s.release(ctx, lease, await.Events, func(r *run, now time.Time) {
		input := &webtrigger.Input{
			ID: s.inputs.nextID(), RunID: r.ID, Request: cloneRequest(await.Request), Ordinal: await.Ordinal,
			CreatedAt: now, ExpiresAt: now.Add(await.Request.ExpiresIn),
		}
		s.leave(r)
		s.inputs = append(s.inputs, input)
		r.inputs = append(r.inputs, input)
		r.executed = await.Executed
		r.Status = webtrigger.RunWaiting
		s.awaiting.add(r)
		s.log(r, now, webtrigger.InputRequestedEvent(*input))
	})
}

// AnswerInput implements [webtrigger.InputStore].
func (s *Store) AnswerInput(ctx context.Context, answer webtrigger.NewAnswer) (webtrigger.Run, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Run{}, err
	}
	defer s.unlock()
	now := s.now()
	input := s.inputs.get(answer.InputID)
	if input == nil || input.RunID != answer.RunID {
		return webtrigger.Run{}, webtrigger.ErrNotFound
	}
	r := s.runs.get(input.RunID)
	switch {
	case input.Answer != nil && input.Answer.Same(answer.Answer):
	case input.Answer != nil:
		return webtrigger.Run{}, webtrigger.ErrAlreadyAnswered
	case r.Status != webtrigger.RunWaiting || !now.Before(input.ExpiresAt):
		return webtrigger.Run{}, webtrigger.ErrInputClosed
	default:
		s.answer(r, answer.Answer, now)
		s.audit(ctx, 0)
	}
	return r.copy(), nil
}

// answer stores the answer to the request of a waiting run and requeues the run.
func (s *Store) answer(r *run, answer webtrigger.InputAnswer, now time.Time) {
	input := r.openInput()
	s.leave(r)
	answer.At, answer.Answer = now, bytes.Clone(answer.Answer)
	input.Answer = &answer
	s.log(r, now, webtrigger.InputReceivedEvent(*input))
	r.Attempts-- // the next claim continues the attempt
	s.enqueue(r, now)
}

// sweepInputs ends or requeues up to limit runs whose requests have expired.
func (s *Store) sweepInputs(limit int, now time.Time) (swept []webtrigger.Run) {
	for r := s.awaiting.first(); r != nil && len(swept) < limit && !now.Before(r.openInput().ExpiresAt); r = s.awaiting.first() {
		if r.openInput().Request.DenyOnExpiry {
			s.answer(r, webtrigger.ExpiredAnswer(), now)
		} else {
			s.end(r, webtrigger.InputTimeout(), now)
		}
		swept = append(swept, r.copy())
	}
	return swept
}

// Input implements [webtrigger.InputStore].
func (s *Store) Input(ctx context.Context, inputID int64) (webtrigger.Input, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Input{}, err
	}
	defer s.unlock()
	input := s.inputs.get(inputID)
	if input == nil {
		return webtrigger.Input{}, webtrigger.ErrNotFound
	}
	return cloneInputRequest(input), nil
}

// Inputs implements [webtrigger.InputStore].
func (s *Store) Inputs(ctx context.Context, runID int64) ([]webtrigger.Input, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	var inputs []webtrigger.Input
	if r := s.runs.get(runID); r != nil {
		for _, input := range r.inputs {
			inputs = append(inputs, cloneInputRequest(input))
		}
	}
	return inputs, nil
}

// OpenInputs implements [webtrigger.InputStore].
func (s *Store) OpenInputs(ctx context.Context, runIDs []int64) (map[int64]webtrigger.Input, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	open := make(map[int64]webtrigger.Input)
	for _, id := range runIDs {
		if r := s.runs.get(id); r != nil && r.Status == webtrigger.RunWaiting {
			open[id] = cloneInputRequest(r.openInput())
		}
	}
	return open, nil
}

func cloneRequest(r webtrigger.InputRequest) webtrigger.InputRequest {
	r.Choices, r.Schema, r.Arguments = slices.Clone(r.Choices), bytes.Clone(r.Schema), bytes.Clone(r.Arguments)
	return r
}

func cloneInputRequest(input *webtrigger.Input) webtrigger.Input {
	c := *input
	c.Request = cloneRequest(c.Request)
	if c.Answer = clonePointer(c.Answer); c.Answer != nil {
		c.Answer.Answer = bytes.Clone(c.Answer.Answer)
	}
	return c
}
