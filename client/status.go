package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Status is the status of a trigger. A nil pointer is a null of the service.
type Status struct {
	TriggerID    int64      `json:"trigger_id"`
	Status       string     `json:"status"` // processing, completed or failed
	Result       *string    `json:"result"` // the result of a completed run
	CreatedAt    time.Time  `json:"created_at"`
	CompletedAt  *time.Time `json:"completed_at"` // when the run ended, in any status
	RunID        int64      `json:"run_id"`
	RunKey       string     `json:"run_key"`
	RunStatus    string     `json:"run_status"`    // queued, running, waiting, completed, failed, cancelled or timed_out
	StatusDetail *string    `json:"status_detail"` // short, such as heartbeat timeout
	ErrorMessage *string    `json:"error_message"`
	Usage        *Usage     `json:"usage"`
	EventsURL    string     `json:"events_url"`
	StreamURL    string     `json:"stream_url"`

	InputRequest *InputRequest `json:"input_request"` // what a waiting run asks a person
}

// InputRequest is a question to a person, or the request to approve a tool call.
type InputRequest struct {
	ID        int64           `json:"id"`
	Kind      string          `json:"kind"` // question or approval
	Question  string          `json:"question"`
	Schema    json.RawMessage `json:"schema"`    // of the answer to a question; null: see Choices
	Choices   []string        `json:"choices"`   // the possible answers; nil: any string, if Schema is null
	Tool      *string         `json:"tool"`      // of an approval
	Arguments json.RawMessage `json:"arguments"` // of an approval: exactly what will be called
	ExpiresAt time.Time       `json:"expires_at"`
}

// InputAnswer answers an InputRequest.
type InputAnswer struct {
	RequestID int64  `json:"request_id"`
	Answer    any    `json:"answer,omitempty"`   // of a question: a value that marshals to JSON
	Decision  string `json:"decision,omitempty"` // of an approval: approve or deny
	Reason    string `json:"reason,omitempty"`   // of a decision
}

// Usage is the number of tokens that the models of a run read and wrote.
type Usage struct {
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
}

// Terminal reports whether the run has ended. The status is final then.
func (s *Status) Terminal() bool { return s.Status == "completed" || s.Status == "failed" }

const (
	// longPoll is how long the service may delay a response to Wait. It is shorter than
	// the usual timeouts of proxies.
	longPoll = 25 * time.Second

	// minPoll is the minimum time between the starts of two requests of Wait.
	minPoll = time.Second
)

// Status returns the current status of a trigger: of its first run, if the conversation
// has a key.
func (c *Client) Status(ctx context.Context, triggerID int64) (*Status, error) {
	return c.StatusOf(ctx, triggerID, 0)
}

// StatusOf returns the current status of one run of a trigger. If runID is 0, that is
// the first one.
func (c *Client) StatusOf(ctx context.Context, triggerID, runID int64) (*Status, error) {
	status, _, err := c.status(ctx, triggerID, runID, 0, "")
	return status, err
}

// Wait waits until the trigger's run ends, in any status, and returns its final
// status. It also waits while the run waits for a person. It asks the service to respond
// when the run ends (Prefer: wait, RFC 7240), or, for a run that waits for a person, when
// its status has changed (If-None-Match). If the service responds earlier, Wait polls at
// the interval of Retry-After.
func (c *Client) Wait(ctx context.Context, triggerID int64) (*Status, error) {
	return c.WaitFor(ctx, triggerID, 0)
}

// WaitFor is Wait for one run of a trigger. If runID is 0, that is the first one.
func (c *Client) WaitFor(ctx context.Context, triggerID, runID int64) (*Status, error) {
	etag := "" // of the last status, if the run waits for a person
	for {
		began := time.Now()
		status, header, err := c.status(ctx, triggerID, runID, longPoll, etag)
		switch {
		case errors.Is(err, errNotModified):
		case err != nil || status.Terminal():
			return status, err
		case status.RunStatus == "waiting":
			etag = header.Get("ETag")
		default:
			etag = ""
		}
		// After an early response Wait pauses, also if the service applies the
		// preference: it may be shutting down.
		next := max(retryAfter(header), minPoll)
		if err := sleep(ctx, next-time.Since(began)); err != nil {
			return nil, err
		}
	}
}

// status reads a status. It returns errNotModified if that is still the one of the etag.
func (c *Client) status(ctx context.Context, triggerID, runID int64, hold time.Duration, etag string) (*Status, http.Header, error) {
	r := request{
		method: http.MethodGet, url: c.trigger(triggerID, "status") + ofRun(runID), hold: hold,
		statuses: []int{http.StatusOK, http.StatusAccepted}, // 202: Options.AcceptedWhileProcessing of the service
	}
	if hold > 0 {
		r.header = http.Header{"Prefer": {"wait=" + strconv.Itoa(int(hold/time.Second))}}
	}
	if etag != "" {
		r.header.Set("If-None-Match", etag)
		r.statuses = append(r.statuses, http.StatusNotModified)
	}
	status := new(Status)
	header, err := c.do(ctx, r, status)
	if err != nil {
		return nil, header, err
	}
	return status, header, nil
}

// Cancel requests the cancellation of a trigger's run. A queued run ends at once, a
// running one soon; Wait returns its final status. It may be repeated. If the run
// has ended, Cancel changes nothing.
func (c *Client) Cancel(ctx context.Context, triggerID int64) error {
	return c.CancelOf(ctx, triggerID, 0)
}

// CancelOf is Cancel for one run of a trigger. If runID is 0, that is the first one.
func (c *Client) CancelOf(ctx context.Context, triggerID, runID int64) error {
	_, err := c.do(ctx, request{
		method: http.MethodPost, url: c.trigger(triggerID, "cancel") + ofRun(runID), statuses: []int{http.StatusOK, http.StatusAccepted},
	}, new(json.RawMessage))
	return err
}

// Answer answers the request for which a trigger's run waits. The key needs the scope
// input. The same answer may be repeated. An [*Error] with the code already_answered
// reports that the request has another answer, and input_closed that it is too late.
func (c *Client) Answer(ctx context.Context, triggerID int64, answer InputAnswer) error {
	return c.AnswerOf(ctx, triggerID, 0, answer)
}

// AnswerOf is Answer for one run of a trigger. If runID is 0, that is the first one.
func (c *Client) AnswerOf(ctx context.Context, triggerID, runID int64, answer InputAnswer) error {
	body, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("client: encode answer: %w", err)
	}
	_, err = c.do(ctx, request{
		method: http.MethodPost, url: c.trigger(triggerID, "input") + ofRun(runID), body: body, statuses: []int{http.StatusAccepted},
	}, new(json.RawMessage))
	return err
}

// ofRun is the query that names a run; 0: none.
func ofRun(runID int64) string {
	if runID == 0 {
		return ""
	}
	return "?run_id=" + strconv.FormatInt(runID, 10)
}
