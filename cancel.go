package webtrigger

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// MaxCancelReasonRunes bounds the reason of a cancellation, in Unicode code points.
const MaxCancelReasonRunes = 255

// CancelRun asks a run to end as cancelled and returns it as it is then. The
// reason becomes its status_detail; a blank one is none, a long or invalid one
// is a [RequestError].
//
//   - A queued run is cancelled at once and never starts.
//   - A running run is still running when CancelRun returns: its Runner's
//     context ends with ErrCancelled, and whatever the Runner then returns, the
//     run ends as cancelled. A stop that was recorded before stays.
//   - An ended run is returned unchanged.
//
// Cancelling twice is no error and keeps the first reason.
func (s *Service) CancelRun(ctx context.Context, runID int64, reason string) (Run, error) {
	var f faults
	switch {
	case !wire.CleanText(reason):
		f.add("/reason", "must be valid UTF-8 without NUL characters")
	case utf8.RuneCountInString(reason) > MaxCancelReasonRunes:
		f.add("/reason", "must have at most 255 characters")
	case blank(reason):
		reason = ""
	}
	if err := f.err(); err != nil {
		return Run{}, err
	}
	over := false // before this call
	if s.opts.Hooks.Ended != nil {
		before, err := s.store.RunByID(ctx, runID)
		if err != nil {
			return Run{}, fmt.Errorf("cancel run: %w", err)
		}
		over = before.Status.Terminal()
	}
	run, err := s.store.RequestStop(ctx, runID, CancelStop(reason), nil)
	if err != nil {
		return Run{}, fmt.Errorf("cancel run: %w", err)
	}
	if !over {
		s.opts.Hooks.ended(ctx, run)
	}
	s.log.With(run.logFields()...).InfoContext(ctx, "run cancel requested", "assistant_id", run.AssistantID, "status", run.Status)
	return run, nil
}
