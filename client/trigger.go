package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// TriggerRequest is what starts a run. Its JSON is the body of the trigger
// endpoint.
type TriggerRequest struct {
	Message          string `json:"message"`                      // 1 to 50,000 characters, not blank
	Subject          string `json:"subject,omitempty"`            // at most 255 characters; "": one with the key's name
	TaskDefinitionID int64  `json:"task_definition_id,omitempty"` // an active task definition of the assistant; 0: none
	CallbackURL      string `json:"callback_url,omitempty"`       // where the run's end is POSTed; "": nowhere

	// Context is appended to what the assistant sees, a line for each of its pairs:
	// a map, a struct, or a json.RawMessage, whatever is a JSON object. nil: none.
	Context any `json:"context,omitempty"`

	// Metadata is kept with the conversation and not shown to the assistant: whatever
	// marshals to JSON. nil: none.
	Metadata any `json:"metadata,omitempty"`

	// IdempotencyKey names the request, in 1 to 255 visible ASCII characters: the
	// service starts one run for all requests of an assistant that have the same key
	// within 24 hours, if their bodies are the same too. Give one that outlives this
	// process, such as the id of what is reported, to repeat a request after a crash.
	// "": Trigger makes one that only its own attempts share.
	IdempotencyKey string `json:"-"`
}

// Accepted is a trigger that the service has stored.
type Accepted struct {
	TriggerID int64  `json:"trigger_id"` // also the id of the conversation
	Status    string `json:"status"`     // accepted
	StatusURL string `json:"status_url"`
	RunID     int64  `json:"run_id"`
	RunKey    string `json:"run_key"` // a UUID; the callback names it too
	EventsURL string `json:"events_url"`

	// Replayed says that the service had stored this trigger already: an attempt
	// whose answer was lost, or another request with the same IdempotencyKey.
	Replayed bool `json:"-"`
}

// Trigger starts a run of an assistant that the key belongs to, and returns when
// the service has stored it. However many attempts that takes, it is one run: all
// of them carry the same Idempotency-Key.
//
// After an error that is no [*Error], such as that of ctx, the run may have been
// started. The same request with the same TriggerRequest.IdempotencyKey tells.
func (c *Client) Trigger(ctx context.Context, assistantID string, req TriggerRequest) (*Accepted, error) {
	if assistantID == "" {
		return nil, errors.New("client: a trigger needs an assistant")
	}
	key := req.IdempotencyKey
	if key == "" {
		key = rand.Text()
	}
	if len(key) > 255 || !visible(key) {
		return nil, errors.New("client: an IdempotencyKey must have 1 to 255 visible ASCII characters")
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(req); err != nil {
		return nil, fmt.Errorf("client: encode the trigger: %w", err)
	}
	accepted := new(Accepted)
	header, err := c.do(ctx, request{
		method: http.MethodPost, url: c.base + "/api/v1/assistants/" + url.PathEscape(assistantID) + "/web-trigger",
		header: http.Header{"Idempotency-Key": {key}}, body: body.Bytes(), statuses: []int{http.StatusAccepted},
	}, accepted)
	if err != nil {
		return nil, err
	}
	if accepted.TriggerID <= 0 {
		return nil, errors.New("client: the answer has no trigger_id")
	}
	accepted.Replayed = header.Get("Idempotent-Replayed") == "true"
	return accepted, nil
}
