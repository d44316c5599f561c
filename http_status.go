package webtrigger

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

func (s *Service) serveStatus(w http.ResponseWriter, r *http.Request, segment string) error {
	if err := allowMethods(r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	grant, err := s.admitTrigger(r, segment, ScopeRead)
	if err != nil {
		return err
	}
	if grant.Run.Status == RunQueued {
		s.checkWorkers()
	}
	known, err := s.knownInput(r, grant.Run)
	if err != nil {
		return err
	}
	waited, err := s.waitFor(w, r, grant.Key.ID, grant.Run, known, r.ContentLength == 0)
	if err != nil {
		return err
	}
	if waited {
		if grant, err = s.admitTrigger(r, segment, ScopeRead); err != nil {
			return err
		}
	}
	run, err := s.shown(r, grant)
	if err != nil {
		return err
	}
	return s.writeStatus(w, r, &run)
}

// openInput returns the request for which a run waits, or nil. A run that was answered
// since it was read is queued.
func (s *Service) openInput(ctx context.Context, run *Run) (*Input, error) {
	if run.Status != RunWaiting {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	open, err := s.store.OpenInputs(ctx, []int64{run.ID})
	if err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	if input, waits := open[run.ID]; waits {
		return &input, nil
	}
	run.Status = RunQueued
	return nil, nil
}

// knownInput returns the id of the request for which a run waits if the caller has seen it: the
// ETag of If-None-Match is that of the current status. Otherwise it returns 0.
func (s *Service) knownInput(r *http.Request, run *Run) (int64, error) {
	tags := r.Header.Values("If-None-Match")
	if run.Status != RunWaiting || len(tags) == 0 {
		return 0, nil
	}
	current := *run
	input, err := s.openInput(r.Context(), &current)
	if err != nil || input == nil {
		return 0, err
	}
	body, err := statusBody(&current, input)
	if err != nil || !matchesETag(tags, etagOf(body)) {
		return 0, err
	}
	return input.ID, nil
}

// etagOf is the ETag of the body of a status.
func etagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}

// shown returns the run of a grant with its result. It reads a large result apart: the
// authentication of other requests must not wait for it.
func (s *Service) shown(r *http.Request, grant Grant) (Run, error) {
	if !grant.ResultOmitted {
		return *grant.Run, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), statementTimeout)
	defer cancel()
	run, err := s.store.RunByID(ctx, grant.Run.ID)
	if err != nil {
		return Run{}, fmt.Errorf("read result: %w", err)
	}
	return run, nil
}

func (s *Service) writeStatus(w http.ResponseWriter, r *http.Request, run *Run) error {
	input, err := s.openInput(r.Context(), run)
	if err != nil {
		return err
	}
	body, err := statusBody(run, input)
	if err != nil {
		return err
	}
	etag := etagOf(body)
	h := w.Header()
	h.Set("Cache-Control", "private, no-cache")
	h.Set("Vary", "Prefer")
	if !run.Status.Terminal() {
		h.Set("Retry-After", strconv.Itoa(pollAfter(run)))
		if s.opts.AcceptedWhileProcessing {
			h.Set("Location", run.StatusURL())
			wire.WriteBody(w, http.StatusAccepted, "application/json", body)
			return nil
		}
	}
	h.Set("ETag", etag)
	if matchesETag(r.Header.Values("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	wire.WriteBody(w, http.StatusOK, "application/json", body)
	return nil
}

// statusBody is what a client sees of a run, and of the request for which it waits.
func statusBody(run *Run, input *Input) ([]byte, error) {
	var result *string
	if run.Status == RunCompleted {
		result = &run.Result
	}
	var request *InputView
	if input != nil {
		view := input.View()
		request = &view
	}
	body, err := wire.Marshal(struct {
		TriggerID    int64     `json:"trigger_id"`
		Status       string    `json:"status"`
		Result       *string   `json:"result"`
		CreatedAt    string    `json:"created_at"`
		CompletedAt  *string   `json:"completed_at"`
		RunID        int64     `json:"run_id"`
		RunKey       string    `json:"run_key"`
		RunStatus    RunStatus `json:"run_status"`
		StatusDetail *string   `json:"status_detail"`
		ErrorMessage *string   `json:"error_message"`
		Usage        *Usage    `json:"usage"`
		EventsURL    string    `json:"events_url"`
		StreamURL    string    `json:"stream_url"`

		InputRequest *InputView `json:"input_request"`
	}{
		run.ConversationID, run.Status.polled(), result, wire.FormatTime(run.CreatedAt), wire.NullableTime(run.CompletedAt),
		run.ID, run.Key, run.Status, wire.NullableString(run.StatusDetail), wire.NullableString(run.ErrorMessage),
		run.Usage, run.EventsURL(), run.StreamURL(), request,
	})
	if err != nil {
		return nil, fmt.Errorf("marshal status: %w", err)
	}
	return body, nil
}

// pollAfter suggests when to poll again, in seconds: soon for a young run, every
// 10 s for an old one.
func pollAfter(run *Run) int {
	return int(min(max(time.Since(run.CreatedAt)/(10*time.Second), 1), 10))
}

// matchesETag evaluates If-None-Match by weak comparison (RFC 9110 §13.1.2).
func matchesETag(values []string, etag string) bool {
	for _, v := range values {
		for tag := range strings.SplitSeq(v, ",") {
			if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}

// serveCancel cancels a trigger's run for its assistant's API keys, as
// [Service.CancelRun] does. The request's body is not looked at. The answer is
// 202 while the run winds up, which may be repeated, and 200 with the status body
// once the run has ended: at once when it was queued or waiting. A key without the scope
// read gets the status without the result.
func (s *Service) serveCancel(w http.ResponseWriter, r *http.Request, segment string) error {
	if err := allowMethods(r, http.MethodPost); err != nil {
		return err
	}
	grant, err := s.admitTrigger(r, segment, ScopeCancel)
	if err != nil {
		return err
	}
	var run Run
	if grant.Run.Status.Terminal() {
		run, err = s.shown(r, grant)
	} else {
		run, err = s.cancelRun(r.Context(), grant.Run.ID, "")
	}
	if err != nil {
		return err
	}
	if !run.Status.Terminal() {
		w.Header().Set("Location", run.StatusURL())
		w.Header().Set("Retry-After", "1")
		return wire.WriteJSON(w, http.StatusAccepted, struct {
			Status string `json:"status"`
		}{"cancel_requested"})
	}
	if !grant.Key.May(ScopeRead) {
		run.Result = ""
	}
	body, err := statusBody(&run, nil)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	wire.WriteBody(w, http.StatusOK, "application/json", body)
	return nil
}
