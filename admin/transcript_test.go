package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
	"github.com/webtrigger-go/webtrigger/internal/transcript"
)

// TestTranscripts plays the conversations under testdata: one host each. Package
// transcript has the format. A request is its method, path, [as USER],
// [Header: value, …]; more lines are its body. An answer is its status and body, of a
// problem the code and what is wrong. The steps are those of [host.Step].
//
// What differs from time to time is written <uuid>, <secret>, <prefix> and, where
// the service's own clock is shown, <now>.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	transcript.Run(t, "testdata/*.txt", func(t *testing.T) transcript.Player { return setup(t, withLists) })
}

func withLists(h *host, o *admin.Options) {
	h.service.SearchTexts = true
	o.MaxBodyBytes = 2000
	o.Assistants = func(context.Context) ([]admin.Assistant, error) {
		return []admin.Assistant{{ID: "2", Name: "Second & <last>"}, {ID: "1"}}, nil
	}
	o.Tools = func(context.Context) ([]admin.Tool, error) {
		return []admin.Tool{{Name: "search", Description: "Searches documents"}, {Name: "clock"}}, nil
	}
}

// Exchange implements [transcript.Player].
func (h *host) Exchange(request string) string {
	request, body, _ := strings.Cut(strings.TrimSuffix(request, "\n"), "\n")
	call, headers := parseCall(request)
	return strings.Join(answerLines(h.do(call, body, headers...)), "\n") + "\n"
}

func parseCall(request string) (call string, headers []string) {
	words := strings.SplitN(request, " ", 3)
	call = words[0] + " " + words[1]
	if len(words) < 3 {
		return call, nil
	}
	for part := range strings.SplitSeq(words[2], ", ") {
		if user, ok := strings.CutPrefix(part, "as "); ok {
			headers = append(headers, "X-User", strings.TrimPrefix(user, "guest"))
			continue
		}
		name, value, _ := strings.Cut(part, ": ")
		headers = append(headers, name, value)
	}
	return call, headers
}

func answerLines(a *answer) []string {
	head := fmt.Sprint(a.Status)
	for _, name := range []string{"Allow", "Location", "ETag", "Retry-After", "Idempotent-Replayed"} {
		if v := a.Header.Get(name); v != "" {
			head += ", " + name + ": " + v
		}
	}
	switch {
	case a.Body == "":
		return []string{head}
	case a.Status < 400:
		return []string{head, normal(a.Body)}
	}
	p := a.problem()
	lines := []string{head, p.Code + ": " + p.Detail}
	for _, e := range p.Errors {
		lines = append(lines, fmt.Sprintf("    %q %s", e.Pointer, e.Detail))
	}
	return lines
}

var (
	uuids    = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	secrets  = regexp.MustCompile(`"[0-9a-f]{64}"`)
	times    = regexp.MustCompile(`(_at":)"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,}\+00:00"`) // the tests' clock has no fractions
	prefixes = regexp.MustCompile(`"prefix":"[0-9a-f]{8}"`)
	ages     = regexp.MustCompile(`"oldest_age_ms":\d{1,4}\b`) // in real time
)

func normal(body string) string {
	body = uuids.ReplaceAllString(body, "<uuid>")
	body = secrets.ReplaceAllString(body, `"<secret>"`)
	body = times.ReplaceAllString(body, `$1"<now>"`)
	body = ages.ReplaceAllString(body, `"oldest_age_ms":<age>`)
	return prefixes.ReplaceAllString(body, `"prefix":"<prefix>"`)
}

// Step makes a change outside of the API:
//
//	trigger ASSISTANT [CALLBACK_URL]  a run is queued
//	mail ASSISTANT METADATA MESSAGE   a run with metadata (without blanks) is queued
//	converse ASSISTANT KEY            a run of the conversation with the key is queued
//	take                              the oldest queued run starts
//	approve TOOL                      the oldest queued run starts and waits for approval
//	complete TEXT, fail TEXT          the oldest queued run starts and ends
//	delivered, failed, blocked        the oldest pending delivery ends so
//	sending                           the oldest pending delivery is sending
//	passed N triggers                 a pass of purges that deleted N triggers ends
//	wait DURATION                     time goes by
func (h *host) Step(what string) {
	h.t.Helper()
	word, rest, _ := strings.Cut(what, " ")
	switch word {
	case "trigger":
		assistant, callback, _ := strings.Cut(rest, " ")
		h.trigger(assistant, webtrigger.TriggerRequest{CallbackURL: callback})
	case "mail":
		words := strings.SplitN(rest, " ", 3)
		h.trigger(words[0], webtrigger.TriggerRequest{Message: words[2], Metadata: json.RawMessage(words[1])})
	case "converse":
		assistant, key, _ := strings.Cut(rest, " ")
		h.trigger(assistant, webtrigger.TriggerRequest{ConversationKey: key})
	case "take":
		h.take()
	case "approve": // the oldest queued run asks for approval and waits
		_, err := h.store.AwaitInput(h.ctx, h.take().Lease, webtrigger.Await{Ordinal: 1, Request: webtrigger.InputRequest{
			Question: "Approve?", Tool: rest, Arguments: json.RawMessage(`{"amount":1e2}`), ExpiresIn: time.Hour}})
		require.NoError(h.t, err)
	case "complete":
		h.end(webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: rest,
			Usage: &webtrigger.Usage{InputTokens: 12, OutputTokens: 3}})
	case "fail":
		h.end(webtrigger.Outcome{Status: webtrigger.RunFailed, ErrorMessage: rest})
	case "delivered":
		h.deliver(&webtrigger.DeliveryOutcome{State: webtrigger.DeliveryDelivered, HTTPStatus: 200,
			Latency: 12345 * time.Microsecond, Response: "thanks"})
	case "failed":
		h.deliver(&webtrigger.DeliveryOutcome{State: webtrigger.DeliveryFailed, HTTPStatus: 500,
			Latency: 2 * time.Millisecond, Error: "status: the receiver did not answer with 2xx"})
	case "blocked":
		h.deliver(&webtrigger.DeliveryOutcome{State: webtrigger.DeliveryBlocked, Error: "blocked: a private address"})
	case "sending":
		h.deliver(nil)
	case "passed":
		n, err := strconv.Atoi(strings.TrimSuffix(rest, " triggers"))
		require.NoError(h.t, err)
		require.NoError(h.t, h.store.RecordPass(h.ctx, webtrigger.Purged{Triggers: n}))
	case "wait":
		d, err := time.ParseDuration(rest)
		require.NoError(h.t, err)
		h.clock.move(d)
	default:
		require.NoError(h.t, errors.New("unknown: "+what))
	}
}
