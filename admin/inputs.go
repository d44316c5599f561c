package admin

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/bridge"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// inputView is a request for input of a run, with its answer.
type inputView struct {
	webtrigger.InputView
	CreatedAt  string          `json:"created_at"`
	Answer     json.RawMessage `json:"answer"` // of a question
	Decision   *string         `json:"decision"`
	Reason     *string         `json:"reason"`
	AnsweredBy *string         `json:"answered_by"`
	AnsweredAt *string         `json:"answered_at"`
}

func viewInput(input webtrigger.Input) inputView {
	v := inputView{InputView: input.View(), CreatedAt: wire.FormatTime(input.CreatedAt)}
	if a := input.Answer; a != nil {
		v.Answer, v.Decision, v.Reason = a.Answer, wire.NullableString(string(a.Decision)), wire.NullableString(a.Reason)
		v.AnsweredBy, v.AnsweredAt = wire.NullableString(a.By), wire.NullableTime(a.At)
	}
	return v
}

// inputs are the requests for input of a run, oldest first.
func (h *Handler) inputs(ctx context.Context, runID int64) ([]inputView, error) {
	inputs, err := h.svc.Inputs(ctx, runID)
	views := make([]inputView, len(inputs))
	for i, input := range inputs {
		views[i] = viewInput(input)
	}
	return views, err
}

// openInputs are the requests for which the runs of a list wait, by run id.
func (h *Handler) openInputs(ctx context.Context, runs []webtrigger.Run) (map[int64]webtrigger.Input, error) {
	var ids []int64
	for _, run := range runs {
		if run.Status == webtrigger.RunWaiting {
			ids = append(ids, run.ID)
		}
	}
	if ids == nil {
		return nil, nil
	}
	return h.svc.OpenInputs(ctx, ids)
}

// answerRun answers the request for which a run waits, as …/input of the Bearer API does.
// The actor of the request is who answered.
func (h *Handler) answerRun(w http.ResponseWriter, r *http.Request, id int64) error {
	const byActor = ""
	return bridge.ServeAnswer(h.svc, w, r, id, h.opts.MaxBodyBytes, byActor)
}
