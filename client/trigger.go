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

// TriggerRequest is the body of the trigger endpoint.
type TriggerRequest struct {
	Message          string `json:"message"`                      // 1 to 50,000 characters, not blank
	Subject          string `json:"subject,omitempty"`            // at most 255 characters; "": made from the key's name
	TaskDefinitionID int64  `json:"task_definition_id,omitempty"` // an active task definition of the assistant; 0: none
	CallbackURL      string `json:"callback_url,omitempty"`       // receives the callback; "": no callback

	// ConversationKey names a conversation. The caller chooses it, such as a ticket
	// number. It has 1 to 255 characters without control characters. The first trigger with a
	// key starts the conversation, and each later one continues it. Its runs execute one
	// at a time. If empty, the trigger starts a conversation without a key.
	ConversationKey string `json:"conversation_key,omitempty"`

	// OnBusy is what happens while a run of the conversation has not ended: enqueue (if
	// empty), reject (an [*Error] with the code conversation_busy) or interrupt.
	OnBusy string `json:"on_busy,omitempty"`

	// Context is appended to the message that the assistant sees, one line for each
	// pair. It must marshal to a JSON object. If nil, there is none.
	Context any `json:"context,omitempty"`

	// Metadata is stored with the run and not shown to the assistant. It may be any
	// value that marshals to JSON. If nil, there is none.
	Metadata any `json:"metadata,omitempty"`

	// IdempotencyKey is the Idempotency-Key header, 1 to 255 visible ASCII characters.
	// The service starts one run for all requests of an assistant with the same key and
	// the same body within 24 hours. To repeat a request after a crash, use a value that
	// outlives the process, such as the id of a report. If empty, Trigger creates one
	// for its own attempts.
	IdempotencyKey string `json:"-"`
}

// CreatedTrigger is a stored trigger.
type CreatedTrigger struct {
	TriggerID int64  `json:"trigger_id"` // also the id of the conversation
	Status    string `json:"status"`     // accepted
	StatusURL string `json:"status_url"`
	RunID     int64  `json:"run_id"`
	RunKey    string `json:"run_key"` // a UUID; the callback names it too
	EventsURL string `json:"events_url"`
	StreamURL string `json:"stream_url"`

	// Replayed reports that the trigger was stored before: by an attempt whose response
	// was lost, or by another request with the same IdempotencyKey.
	Replayed bool `json:"-"`
}

// Trigger starts a run of the assistant that the key belongs to, and returns when
// the service has stored it. All attempts carry the same Idempotency-Key, so they
// start one run.
//
// After an error that is not an [*Error], such as the cause of ctx's end, the run may
// have been started. To find out, repeat the request with the same
// TriggerRequest.IdempotencyKey.
func (c *Client) Trigger(ctx context.Context, assistantID string, req TriggerRequest) (*CreatedTrigger, error) {
	if assistantID == "" {
		return nil, errors.New("client: assistant id must not be empty")
	}
	key := req.IdempotencyKey
	if key == "" {
		key = rand.Text()
	}
	if len(key) > 255 || !visible(key) {
		return nil, errors.New("client: IdempotencyKey must have 1 to 255 visible ASCII characters")
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(req); err != nil {
		return nil, fmt.Errorf("client: encode trigger: %w", err)
	}
	accepted := new(CreatedTrigger)
	header, err := c.do(ctx, request{
		method: http.MethodPost, url: c.base + "/api/v1/assistants/" + url.PathEscape(assistantID) + "/web-trigger",
		header: http.Header{"Idempotency-Key": {key}}, body: body.Bytes(), statuses: []int{http.StatusAccepted},
	}, accepted)
	if err != nil {
		return nil, err
	}
	if accepted.TriggerID <= 0 {
		return nil, errors.New("client: response has no trigger_id")
	}
	accepted.Replayed = header.Get("Idempotent-Replayed") == "true"
	return accepted, nil
}
