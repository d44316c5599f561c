package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Status is how a trigger stands. The pointers are nil where the service says
// null.
type Status struct {
	TriggerID    int64      `json:"trigger_id"`
	Status       string     `json:"status"` // processing, completed or failed
	Result       *string    `json:"result"` // what the assistant made, when completed
	CreatedAt    time.Time  `json:"created_at"`
	CompletedAt  *time.Time `json:"completed_at"` // when it ended, however
	RunID        int64      `json:"run_id"`
	RunKey       string     `json:"run_key"`
	RunStatus    string     `json:"run_status"`    // queued, running, completed, failed, cancelled or timed_out
	StatusDetail *string    `json:"status_detail"` // a few words, such as heartbeat timeout
	ErrorMessage *string    `json:"error_message"`
	Usage        *Usage     `json:"usage"`
	EventsURL    string     `json:"events_url"`
}

// Usage is what a run's models have read and written, in tokens.
type Usage struct {
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
}

// Terminal reports whether the run has ended. It is over then for good.
func (s *Status) Terminal() bool { return s.Status == "completed" || s.Status == "failed" }

const (
	// longPoll is how long Wait asks the service to hold an answer back: what
	// proxies commonly cut is longer.
	longPoll = 25 * time.Second

	// minPoll is the least time between the beginnings of two requests of Wait.
	minPoll = time.Second
)

// Status reads how a trigger stands now.
func (c *Client) Status(ctx context.Context, triggerID int64) (*Status, error) {
	status, _, err := c.status(ctx, triggerID, 0)
	return status, err
}

// Wait waits until the trigger's run has ended, in success or not, and returns how
// it stands then. It asks the service to answer at the run's end (Prefer: wait, RFC
// 7240), and polls as Retry-After asks where that is not done.
func (c *Client) Wait(ctx context.Context, triggerID int64) (*Status, error) {
	for {
		began := time.Now()
		status, header, err := c.status(ctx, triggerID, longPoll)
		if err != nil || status.Terminal() {
			return status, err
		}
		// An answer that was held back long enough needs no pause. One that came early
		// does, also from a service that promised to hold it: it may be shutting down.
		next := max(retryAfter(header), minPoll)
		if err := sleep(ctx, next-time.Since(began)); err != nil {
			return nil, err
		}
	}
}

func (c *Client) status(ctx context.Context, triggerID int64, hold time.Duration) (*Status, http.Header, error) {
	r := request{
		method: http.MethodGet, url: c.trigger(triggerID, "status"), hold: hold,
		statuses: []int{http.StatusOK, http.StatusAccepted}, // 202: Options.StatusAccepted of the service
	}
	if hold > 0 {
		r.header = http.Header{"Prefer": {"wait=" + strconv.Itoa(int(hold/time.Second))}}
	}
	status := new(Status)
	header, err := c.do(ctx, r, status)
	if err != nil {
		return nil, nil, err
	}
	return status, header, nil
}

// Cancel asks the service to cancel a trigger's run. A queued run ends at once, a
// running one soon: Wait tells how. It may be repeated, and changes nothing when
// the run has ended.
func (c *Client) Cancel(ctx context.Context, triggerID int64) error {
	_, err := c.do(ctx, request{
		method: http.MethodPost, url: c.trigger(triggerID, "cancel"), statuses: []int{http.StatusOK, http.StatusAccepted},
	}, new(json.RawMessage))
	return err
}
