package inputtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// small accepts schemas that have a "maximum" and no other one.
func small(schema json.RawMessage) (func(json.RawMessage) error, error) {
	if !strings.HasPrefix(string(schema), `{"maximum"`) {
		return nil, errors.New("unknown keyword")
	}
	return func(answer json.RawMessage) error {
		if string(answer) != "1" {
			return errors.New("must be at most 1")
		}
		return nil
	}, nil
}

// A request at its limits is stored. Beyond them, AskInput returns an error, and nothing is
// asked.
func TestAskInput_limits_areChecked(t *testing.T) {
	t.Parallel()
	ask := func(opts webtrigger.Options, requests ...webtrigger.InputRequest) (errs []error) {
		t.Helper()
		svc := newService(t, memstore.New(nil), webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
			for _, request := range requests {
				_, err := webtrigger.AskInput(ctx, task, request)
				errs = append(errs, err)
			}
			return &webtrigger.Result{Text: "done"}, nil
		}), opts)
		id := trigger(t, svc)
		require.NoError(t, svc.Execute(t.Context(), id))
		inputs, err := svc.Inputs(t.Context(), id)
		require.NoError(t, err)
		require.Empty(t, inputs)
		return errs
	}
	choices := func(n, runes int) (choices []string) {
		for i := range n {
			choices = append(choices, fmt.Sprintf("%03d", i)+strings.Repeat("ü", runes-3))
		}
		return choices
	}
	object := func(bytes int) json.RawMessage {
		return json.RawMessage(`{"maximum":"` + strings.Repeat("x", bytes-len(`{"maximum":""}`)) + `"}`)
	}
	type request = webtrigger.InputRequest
	const q = "Which?"
	within := []request{
		{Question: strings.Repeat("ü", webtrigger.MaxQuestionRunes), Name: strings.Repeat("n", 255), ExpiresIn: webtrigger.MaxInputExpiry},
		{Question: q, Choices: choices(webtrigger.MaxChoices, webtrigger.MaxChoiceRunes), ExpiresIn: time.Second},
		{Question: q, Schema: object(webtrigger.MaxInputSchemaBytes)},
		{Tool: strings.Repeat("t", 64), Arguments: append(json.RawMessage("  "), object(webtrigger.MaxInputArgumentBytes)...), DenyOnExpiry: true},
	}
	for i, err := range ask(webtrigger.Options{CompileSchema: small}, within...) {
		require.ErrorIs(t, err, webtrigger.ErrWaiting, "request %d", i)
	}
	beyond := map[string]request{
		"InputRequest.Question must have 1 to 4,000 characters": {Question: strings.Repeat("ü", webtrigger.MaxQuestionRunes+1)},
		"must not be blank":                               {Question: " \n"},
		"InputRequest.Name must be":                       {Question: q, Name: strings.Repeat("n", 256)},
		"without NUL characters":                          {Question: q, Name: "\x00"},
		"InputRequest.ExpiresIn must be from 1 s":         {Question: q, ExpiresIn: time.Second - 1},
		"to 30 days":                                      {Question: q, ExpiresIn: webtrigger.MaxInputExpiry + 1},
		"InputRequest.DenyOnExpiry needs a Tool":          {Question: q, DenyOnExpiry: true},
		"InputRequest.Choices must have at most 100":      {Question: q, Choices: choices(webtrigger.MaxChoices+1, 3)},
		"must have 1 to 200 characters":                   {Question: q, Choices: choices(1, webtrigger.MaxChoiceRunes+1)},
		"InputRequest.Choices must be distinct":           {Question: q, Choices: []string{"a", "a"}},
		"InputRequest.Choices exclude Schema":             {Question: q, Choices: []string{"a"}, Schema: object(20)},
		"InputRequest.Schema must have at most 32768":     {Question: q, Schema: object(webtrigger.MaxInputSchemaBytes + 1)},
		"InputRequest.Schema must be a JSON object":       {Question: q, Schema: json.RawMessage(`[1]`)},
		"InputRequest.Schema is not a usable JSON Schema": {Question: q, Schema: json.RawMessage(`{"what":1}`)},
		"InputRequest.Arguments need a Tool":              {Question: q, Arguments: json.RawMessage(`{}`)},
		"InputRequest.Arguments must have at most 131072": {Tool: "t", Arguments: object(webtrigger.MaxInputArgumentBytes + 1)},
		"InputRequest.Arguments must be a JSON object":    {Tool: "t", Arguments: json.RawMessage(`{"a":1,"a":2}`)},
		"InputRequest.Tool must have at most 64":          {Tool: strings.Repeat("t", 65), Arguments: json.RawMessage(`{}`)},
		"InputRequest.Tool excludes Choices and Schema":   {Tool: "t", Arguments: json.RawMessage(`{}`), Choices: []string{"a"}},
	}
	for want, request := range beyond {
		require.ErrorContains(t, ask(webtrigger.Options{CompileSchema: small}, request)[0], want)
	}
	require.ErrorContains(t, ask(webtrigger.Options{}, request{Question: q, Schema: object(20)})[0], "InputRequest.Schema needs Options.CompileSchema")
	_, err := webtrigger.AskInput(t.Context(), &webtrigger.Task{}, request{Question: q})
	require.ErrorContains(t, err, "task was not made by a Service")
}

// A run that makes more than 100 requests fails.
func TestAskInput_moreThan100Requests_failsTheRun(t *testing.T) {
	t.Parallel()
	svc := newService(t, memstore.New(nil), webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		for {
			if _, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Question: "Which?"}); err != nil {
				return nil, err
			}
		}
	}), webtrigger.Options{})
	id := trigger(t, svc)
	for range webtrigger.MaxInputs {
		require.NoError(t, svc.Execute(t.Context(), id))
		_, err := svc.AnswerInput(t.Context(), id, open(t, svc, id).ID, text("main"))
		require.NoError(t, err)
	}
	require.NoError(t, svc.Execute(t.Context(), id))
	run, err := svc.RunByID(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunFailed, run.Status)
	require.Equal(t, "The assistant made more than 100 requests for input.", run.ErrorMessage)
}

// An answer at its limits is stored. Beyond them, or if it does not fit its request, the
// response has the code of its fault, and the run still waits.
func TestAnswerInput_limits_areChecked(t *testing.T) {
	t.Parallel()
	var runner asks
	store := memstore.New(nil)
	svc := newService(t, store, &runner, webtrigger.Options{CompileSchema: small, MaxBodyBytes: 1 << 20})
	_, secret, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "person", Scopes: []webtrigger.Scope{webtrigger.ScopeInput}})
	require.NoError(t, err)
	post := func(svc *webtrigger.Service, input webtrigger.Input, members string) (code int, body string) {
		r := httptest.NewRequest(http.MethodPost, fmt.Sprintf("/api/v1/web-triggers/%d/input", input.RunID),
			strings.NewReader(fmt.Sprintf(`{"request_id":%d,%s}`, input.ID, members)))
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		svc.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	waits := func(request webtrigger.InputRequest) webtrigger.Input {
		runner.request = request
		id := trigger(t, svc)
		require.NoError(t, svc.Execute(t.Context(), id))
		return open(t, svc, id)
	}
	long := func(bytes int) string { return `"` + strings.Repeat("x", bytes-2) + `"` }
	question, approval := webtrigger.InputRequest{Question: "Which?"}, webtrigger.InputRequest{Tool: "refund", Arguments: json.RawMessage(`{}`)}
	schema := webtrigger.InputRequest{Question: "Which?", Schema: json.RawMessage(`{"maximum":1}`)}
	for _, c := range []struct {
		request       webtrigger.InputRequest
		beyond, fault string
		fits          string
	}{
		{question, `"answer":` + long(webtrigger.MaxAnswerBytes+1), `{"pointer":"/answer","detail":"must have at most 65,536 bytes"}`, `"answer":` + long(webtrigger.MaxAnswerBytes)},
		{question, `"answer":{"a":1}`, `{"pointer":"/answer","detail":"must be a string"}`, `"answer":"main"`},
		{question, `"decision":"approve"`, `{"pointer":"/decision","detail":"must be absent: the request needs an answer"}`, `"answer":"main"`},
		{schema, `"answer":2`, `{"pointer":"/answer","detail":"does not meet the schema of the request: must be at most 1"}`, `"answer": 1`},
		{approval, `"decision":"deny","reason":"` + strings.Repeat("ü", webtrigger.MaxAnswerReasonRunes+1) + `"`, `"pointer":"/reason"`,
			`"decision":"deny","reason":"` + strings.Repeat("ü", webtrigger.MaxAnswerReasonRunes) + `"`},
		{approval, `"decision":"perhaps"`, `{"pointer":"/decision","detail":"must be one of approve, deny"}`, `"decision":"approve"`},
		{approval, `"answer":"yes","decision":"approve"`, `{"pointer":"/answer","detail":"must be absent: the request needs a decision"}`, `"decision":"approve"`},
	} {
		input := waits(c.request)
		code, body := post(svc, input, c.beyond)
		require.Equal(t, http.StatusUnprocessableEntity, code, body)
		require.Contains(t, body, `"code":"invalid_request"`)
		require.Contains(t, body, c.fault)
		require.Equal(t, input, open(t, svc, input.RunID))
		code, body = post(svc, input, c.fits)
		require.Equal(t, http.StatusAccepted, code, body)
	}
	input := waits(schema)
	bare := newService(t, store, &runner, webtrigger.Options{})
	code, body := post(bare, input, `"answer":1`)
	require.Equal(t, http.StatusUnprocessableEntity, code)
	require.Contains(t, body, "cannot be checked: this server has no schema compiler")
	code, body = post(svc, waits(question), `"answer":{"a":1,"a":2}`)
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, body, `"code":"malformed_json"`)
	code, body = post(svc, waits(question), `"answer":"`+strings.Repeat("x", 1<<20)+`"`)
	require.Equal(t, http.StatusRequestEntityTooLarge, code)
	require.Contains(t, body, `"code":"body_too_large"`)
}

// asks is a Runner that makes one request.
type asks struct{ request webtrigger.InputRequest }

func (a *asks) Run(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	_, err := webtrigger.AskInput(ctx, task, a.request)
	return &webtrigger.Result{Text: "done"}, err
}
