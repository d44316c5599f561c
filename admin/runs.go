package admin

import (
	"encoding/json"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// runView is a run in a list.
type runView struct {
	ID               int64                `json:"id"`
	RunKey           string               `json:"run_key"`
	TriggerID        int64                `json:"trigger_id"`
	ConversationKey  *string              `json:"conversation_key"`
	AssistantID      string               `json:"assistant_id"`
	KeyID            *int64               `json:"key_id"`
	Status           webtrigger.RunStatus `json:"status"`
	Behind           bool                 `json:"behind"` // queued behind an earlier run of its conversation
	StatusDetail     *string              `json:"status_detail"`
	ErrorMessage     *string              `json:"error_message"`
	CreatedAt        string               `json:"created_at"`
	StartedAt        *string              `json:"started_at"`
	CompletedAt      *string              `json:"completed_at"`
	Attempts         int                  `json:"attempts"`
	TaskDefinitionID *int64               `json:"task_definition_id"`
	CallbackURL      *string              `json:"callback_url"`
	CallbackState    *string              `json:"callback_state"` // of the last delivery with an outcome; pending before; null without a callback
	RequestID        *string              `json:"request_id"`
	EventsURL        string               `json:"events_url"`
	StreamURL        string               `json:"stream_url"`
}

func viewRun(run webtrigger.Run) runView {
	v := runView{
		ID: run.ID, RunKey: run.Key, TriggerID: run.ConversationID, ConversationKey: wire.NullableString(run.ConversationKey),
		AssistantID: run.AssistantID, Status: run.Status, Behind: run.Behind, StatusDetail: wire.NullableString(run.StatusDetail), ErrorMessage: wire.NullableString(run.ErrorMessage),
		CreatedAt: wire.FormatTime(run.CreatedAt), StartedAt: wire.NullableTime(run.StartedAt), CompletedAt: wire.NullableTime(run.CompletedAt),
		Attempts: run.Attempts, CallbackURL: wire.NullableString(run.CallbackURL),
		CallbackState: callbackState(run), RequestID: wire.NullableString(run.RequestID), EventsURL: run.EventsURL(), StreamURL: run.StreamURL(),
	}
	if run.KeyID != 0 {
		v.KeyID = &run.KeyID
	}
	if run.TaskDefinitionID != 0 {
		v.TaskDefinitionID = &run.TaskDefinitionID
	}
	return v
}

func callbackState(run webtrigger.Run) *string {
	switch {
	case run.CallbackURL == "":
		return nil
	case run.Callback.State == "":
		return wire.NullableString(string(webtrigger.DeliveryPending))
	}
	return wire.NullableString(string(run.Callback.State))
}

// runDetail is a run by itself: what was sent, and what came of it.
type runDetail struct {
	runView
	Message   string            `json:"message"`
	Subject   string            `json:"subject"`
	Context   json.RawMessage   `json:"context"`  // as sent; nil is null
	Metadata  json.RawMessage   `json:"metadata"` // as sent; nil is null
	Result    *string           `json:"result"`
	Usage     *webtrigger.Usage `json:"usage"`
	Task      *taskView         `json:"task"` // as it was at accept
	StatusURL string            `json:"status_url"`
	Inputs    []inputView       `json:"inputs"` // requests for input, oldest first
}

func (h *Handler) writeRun(w http.ResponseWriter, r *http.Request, status int, run webtrigger.Run) error {
	input, err := h.svc.RunInput(r.Context(), run.ID)
	if err != nil {
		return err
	}
	inputs, err := h.inputs(r.Context(), run.ID)
	if err != nil {
		return err
	}
	detail := runDetail{
		Inputs:  inputs,
		runView: viewRun(run), Message: input.Message, Subject: input.Subject, Context: input.Context, Metadata: input.Metadata,
		Usage: run.Usage, StatusURL: run.StatusURL(),
	}
	if run.Status == webtrigger.RunCompleted {
		detail.Result = &run.Result
	}
	if run.TaskDefinition != nil {
		task := viewTask(*run.TaskDefinition)
		detail.Task = &task
	}
	return wire.WriteJSON(w, status, detail)
}

// assistantAsked is the assistant to which a list is limited; without one the
// list is about all of them. A malformed id names no assistant and is rejected later.
func assistantAsked(r *http.Request) (*query, webtrigger.Access, error) {
	q := readQuery(r)
	if id := q.assistantID("assistant_id"); q.err == nil {
		return q, webtrigger.Access{AssistantID: id}, nil
	}
	return q, webtrigger.Access{}, nil
}

func (h *Handler) getRun(w http.ResponseWriter, r *http.Request, id int64) error {
	run, err := h.svc.RunByID(r.Context(), id)
	if err != nil {
		return err
	}
	return h.writeRun(w, r, http.StatusOK, run)
}

// cancelRun responds with 202 if the run must still stop, and with 200 if it has ended.
func (h *Handler) cancelRun(w http.ResponseWriter, r *http.Request, id int64) error {
	reason, err := h.readReason(w, r)
	if err != nil {
		return err
	}
	run, err := h.svc.CancelRun(r.Context(), id, reason)
	if err != nil {
		return err
	}
	status := http.StatusAccepted
	if run.Status.Terminal() {
		status = http.StatusOK
	}
	return h.writeRun(w, r, status, run)
}

// readReason reads the reason of a cancellation; the whole body is optional.
func (h *Handler) readReason(w http.ResponseWriter, r *http.Request) (string, error) {
	if r.ContentLength == 0 {
		return "", nil
	}
	data, err := wire.ReadJSON(w, r, h.opts.MaxBodyBytes)
	if err != nil || len(data) == 0 {
		return "", err
	}
	b, err := parseBody(data, "reason")
	if err != nil {
		return "", err
	}
	reason := b.givenText("reason")
	if b.err() != nil {
		const noRun = 0
		_, err := h.svc.CancelRun(r.Context(), noRun, reason)
		return "", b.errWith(err, "")
	}
	return reason, nil
}
