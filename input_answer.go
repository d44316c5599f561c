package webtrigger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/internal/bridge"
	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// InputStore stores requests for input, their answers, and the runs that wait for them.
//
// A waiting run has no lease and keeps the head of its lane. It is neither queued nor
// running, and counts toward no limit of queued or running runs. RequestStop ends it
// immediately. SweepRuns ends it with InputTimeout when its request has expired, or
// answers with ExpiredAnswer if Request.DenyOnExpiry is set.
type InputStore interface {
	// AwaitInput makes a run waiting. It stores await.Events, the request with a new id
	// and InputRequestedEvent, and await.Executed. The request expires
	// await.Request.ExpiresIn from now. If a stop is recorded, the run ends by that stop
	// instead, and no request is stored. As with RequeueRun, ErrLeaseLost after an
	// unknown outcome means that the call was stored or that another transition has
	// ended the claim.
	AwaitInput(ctx context.Context, lease Lease, await Await) (Run, error)

	// AnswerInput stores the answer to the request for which a run waits, and
	// InputReceivedEvent. It requeues the run as RequeueRun does, without a
	// RequeuedEvent: the attempt does not count.
	//
	// Of several concurrent answers, exactly one must be stored. If the request has an
	// answer that is the same (InputAnswer.Same), AnswerInput changes nothing and returns
	// the run. If it has another one, AnswerInput returns ErrAlreadyAnswered. It returns
	// ErrInputClosed if the request has expired or its run does not wait any more, and
	// ErrNotFound if the run has no such request.
	AnswerInput(ctx context.Context, answer NewAnswer) (Run, error)

	// Input returns one request for input.
	Input(ctx context.Context, inputID int64) (Input, error)

	// Inputs lists the requests of a run, oldest first.
	Inputs(ctx context.Context, runID int64) ([]Input, error)

	// OpenInputs returns the requests for which runs wait, by run id.
	OpenInputs(ctx context.Context, runIDs []int64) (map[int64]Input, error)
}

// Await is the request for which a run waits.
type Await struct {
	Request  InputRequest // complete and valid
	Ordinal  int
	Executed time.Duration // executing time of the attempt, which a claim after the answer returns
	Events   EventBatch    // emitted events that are not known to be stored
}

// NewAnswer is an answer that the store stores.
type NewAnswer struct {
	RunID   int64
	InputID int64
	Answer  InputAnswer // At is set by the store
}

// Input returns one request for input. It returns ErrNotFound if it does not exist.
func (s *Service) Input(ctx context.Context, inputID int64) (Input, error) {
	return s.store.Input(ctx, inputID)
}

// Inputs lists the requests for input of a run, oldest first.
func (s *Service) Inputs(ctx context.Context, runID int64) ([]Input, error) {
	return s.store.Inputs(ctx, runID)
}

// OpenInputs returns the requests for which runs wait, by run id. Runs that do not wait
// are absent from the map.
func (s *Service) OpenInputs(ctx context.Context, runIDs []int64) (map[int64]Input, error) {
	return s.store.OpenInputs(ctx, runIDs)
}

// AnswerInput answers the request for which a run waits, and requeues the run. The
// attempt does not count. answer.By names who answered. If empty, it is the actor of ctx
// ([WithActor]). AnswerInput returns the run.
//
// The first answer counts. The same answer again is not an error. Another one returns
// [ErrAlreadyAnswered]. If the run does not wait for this request any more, or the request
// has expired, AnswerInput returns [ErrInputClosed]. It returns ErrNotFound if the run does not exist, and a
// [RequestError] if the request is not one of this run or the answer does not fit it.
func (s *Service) AnswerInput(ctx context.Context, runID, inputID int64, answer InputAnswer) (Run, error) {
	var f faults
	input, err := s.store.Input(ctx, inputID)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && input.RunID != runID:
		if _, err := s.store.RunSummary(ctx, runID); err != nil {
			return Run{}, fmt.Errorf("answer input: %w", err)
		}
		f.add("/request_id", "is not the id of a request of this run")
		return Run{}, f.err()
	case err != nil:
		return Run{}, fmt.Errorf("answer input: %w", err)
	}
	if answer.By == "" {
		answer.By, _ = actorOf(ctx)
	}
	if s.checkAnswer(&input.Request, &answer, &f); f.err() != nil {
		return Run{}, f.err()
	}
	if input.Answer != nil { // later answers of many callers cost no write
		if !input.Answer.Same(answer) {
			return Run{}, fmt.Errorf("answer input: %w", ErrAlreadyAnswered)
		}
		return s.store.RunSummary(ctx, runID)
	}
	if _, person := actorOf(ctx); person {
		ctx = audited(ctx, "run.input", objectOf("run", runID), map[string]any{"request_id": inputID, "decision": answer.Decision})
	}
	run, err := s.store.AnswerInput(ctx, NewAnswer{RunID: runID, InputID: inputID, Answer: answer})
	if err != nil {
		return Run{}, fmt.Errorf("answer input: %w", err)
	}
	s.log.With(run.logFields()...).InfoContext(ctx, "input received", "assistant_id", run.AssistantID, "input_id", inputID,
		"decision", answer.Decision, "answered_by", answer.By)
	return run, nil
}

const decisionRule = "must be one of approve, deny"

// checkAnswer validates an answer to a request. It removes white space between the
// tokens of the answer.
func (s *Service) checkAnswer(r *InputRequest, a *InputAnswer, f *faults) {
	a.By = wire.Truncate(wire.ValidText(a.By), maxInputName)
	if r.Kind() == InputApproval {
		if strictjson.IsNull(a.Answer) {
			a.Answer = nil
		}
		if len(a.Answer) > 0 {
			f.add("/answer", "must be absent: the request needs a decision")
		}
		if a.Decision != DecisionApprove && a.Decision != DecisionDeny {
			f.add("/decision", decisionRule)
		}
		if utf8.RuneCountInString(a.Reason) > MaxAnswerReasonRunes || !wire.CleanText(a.Reason) {
			f.add("/reason", "must have at most 1,000 characters and no NUL characters")
		}
		return
	}
	if a.Decision != "" {
		f.add("/decision", "must be absent: the request needs an answer")
	}
	if a.Reason != "" {
		f.add("/reason", "must be absent: the request needs an answer")
	}
	if len(a.Answer) == 0 {
		f.add("/answer", "is required")
		return
	}
	if checkJSON("/answer", a.Answer, f); f.on("/answer") {
		return
	}
	var compact bytes.Buffer
	_ = json.Compact(&compact, a.Answer) // it is valid
	a.Answer = compact.Bytes()
	if len(a.Answer) > MaxAnswerBytes {
		f.add("/answer", "must have at most 65,536 bytes")
		return
	}
	s.checkAnswerValue(r, a, f)
}

func (s *Service) checkAnswerValue(r *InputRequest, a *InputAnswer, f *faults) {
	text, isText := strictjson.String(a.Answer)
	if isText { // one spelling for each text
		a.Answer = mustJSON(text)
	}
	switch {
	case r.Schema == nil && !isText:
		f.add("/answer", "must be a string")
	case len(r.Choices) > 0 && !slices.Contains(r.Choices, text):
		f.add("/answer", "must be one of the choices")
	case r.Schema == nil:
	case s.opts.CompileSchema == nil:
		f.add("/answer", "cannot be checked: this server has no schema compiler")
	default:
		check, err := s.opts.CompileSchema(r.Schema)
		if err == nil {
			err = check(a.Answer)
		}
		if err != nil {
			f.add("/answer", "does not meet the schema of the request: "+strings.TrimSuffix(wire.ValidText(err.Error()), "."))
		}
	}
}

// serveInput answers the request for which a run waits, as [Service.AnswerInput] does.
func (s *Service) serveInput(w http.ResponseWriter, r *http.Request, segment string) error {
	if err := allowMethods(r, http.MethodPost); err != nil {
		return err
	}
	grant, err := s.admitTrigger(r, segment, ScopeInput)
	if err != nil {
		return err
	}
	return s.serveAnswer(w, r, grant.Run.ID, s.opts.MaxBodyBytes, "API key "+grant.Key.Prefix)
}

// serveAnswer reads an answer and stores it.
func (s *Service) serveAnswer(w http.ResponseWriter, r *http.Request, runID, maxBytes int64, by string) error {
	body, err := wire.ReadJSON(w, r, maxBytes)
	if err != nil {
		return err
	}
	inputID, answer, found, err := decodeAnswer(body)
	if err != nil {
		return err
	}
	answer.By = by
	if found.err() != nil {
		return found.err()
	}
	run, err := s.AnswerInput(r.Context(), runID, inputID, answer)
	if err != nil {
		return err
	}
	w.Header().Set("Location", run.StatusURL())
	w.Header().Set("Retry-After", "1")
	return wire.WriteJSON(w, http.StatusAccepted, struct {
		Status string `json:"status"`
	}{"input_received"})
}

func init() {
	bridge.ServeAnswer = func(svc any, w http.ResponseWriter, r *http.Request, runID, maxBytes int64, by string) error {
		return svc.(*Service).serveAnswer(w, r, runID, maxBytes, by)
	}
}

// decodeAnswer reads the body of an answer. The error is a *strictjson.SyntaxError.
func decodeAnswer(body []byte) (inputID int64, a InputAnswer, found faults, err error) {
	members, parsed, err := strictjson.Parse(body)
	if err != nil {
		return 0, a, nil, err
	}
	for _, f := range append(parsed, strictjson.Unknown(members, "request_id", "answer", "decision", "reason")...) {
		found.add(f.Pointer, f.Detail)
	}
	for _, m := range members {
		if strictjson.IsNull(m.Raw) && m.Key != "answer" {
			continue
		}
		var ok bool
		switch m.Key {
		case "request_id":
			if inputID, ok = strictjson.PositiveInt64(m.Raw); !ok {
				found.add("/request_id", "must be a positive integer")
			}
		case "answer":
			a.Answer = m.Raw
		case "decision":
			var text string
			if text, ok = strictjson.String(m.Raw); !ok || text != string(DecisionApprove) && text != string(DecisionDeny) {
				found.add("/decision", decisionRule)
			}
			a.Decision = Decision(text)
		case "reason":
			if a.Reason, ok = strictjson.String(m.Raw); !ok {
				found.add("/reason", "must be a string")
			}
		}
	}
	if inputID == 0 && !found.on("/request_id") && !found.on("") {
		found.add("/request_id", "is required")
	}
	return inputID, a, found, nil
}
