package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// SendTestCallback sends one callback to url, now and by this process, for whoever
// sets up a receiver: through the same guard and transport, with the same header
// and signature as the callbacks of the assistant's runs. It needs neither Work
// nor an enabled channel, is not retried, and nothing is stored.
//
// The body has the eight fields of a completed run that does not exist: a
// run_key of its own, conversation_id 0, and "Test callback" as result_text.
//
// It returns what became of the POST as a [Delivery] that is delivered, failed or
// blocked and whose ids are 0, after 10 s at most. The error is a [RequestError]
// for an assistant id or a URL that the guard refuses as text, or the store's.
// When ctx ends meanwhile it is ctx's, and the POST may have been sent.
func (s *Service) SendTestCallback(ctx context.Context, assistantID, url string) (Delivery, error) {
	var f faults
	if !ValidAssistantID(assistantID) {
		f.add("/assistant_id", assistantIDRule)
	}
	target, err := s.guard.ParseURL(url)
	if refusal := (*egress.Refusal)(nil); errors.As(err, &refusal) {
		f.add("/callback_url", refusal.Error())
	}
	if err := f.err(); err != nil {
		return Delivery{}, err
	}
	secrets, err := s.store.SigningSecrets(ctx, assistantID)
	if err != nil {
		return Delivery{}, fmt.Errorf("read signing secrets: %w", err)
	}
	created := time.Now()
	run := Run{Key: newRunKey(), Status: RunCompleted, Result: "Test callback", BaseURL: bases{s.opts.APIBase, s.opts.SessionBase}.stored(), CompletedAt: created}
	d := Delivery{
		RunKey: run.Key, AssistantID: assistantID, URL: url, Host: target.HostPort(), CreatedAt: created, DueAt: created,
	}
	o, attempted, err := s.testDelivery(ctx, d, run, secrets)
	if err != nil {
		return Delivery{}, err
	}
	d.State, d.AttemptedAt, d.CompletedAt = o.State, attempted, time.Now()
	d.HTTPStatus, d.Latency, d.Response = o.HTTPStatus, o.Latency, o.Response
	d.FailureClass, d.Error = o.FailureClass, o.Error
	s.log.InfoContext(ctx, "test callback", "assistant_id", assistantID, "run_key", run.Key,
		"state", d.State, "http_status", d.HTTPStatus, "latency", d.Latency, "error_class", d.FailureClass)
	return d, nil
}

// testDelivery makes the attempt; attempted is zero when nothing was written.
func (s *Service) testDelivery(ctx context.Context, d Delivery, run Run, secrets []SigningSecret) (o DeliveryOutcome, attempted time.Time, err error) {
	body, err := callbackBody(&run)
	if err != nil {
		return o, attempted, err
	}
	call, cancel := context.WithTimeout(ctx, callbackTimeout)
	defer cancel()
	conn, err := s.connect.connect(call, d.URL)
	if err != nil {
		return unsent(err), attempted, ctx.Err()
	}
	defer conn.Close()
	attempted = time.Now()
	response, err := conn.Post(call, s.callbackHeader(secrets, run.Key, attempted, body), body)
	o = sent(response, err, time.Since(attempted))
	if err != nil {
		return o, attempted, ctx.Err()
	}
	return o, attempted, nil
}
