package webtriggertest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/sse"
)

// Event is one event of a stream.
type Event struct {
	ID             int64           `json:"id"`
	Sequence       int64           `json:"sequence"`
	RunID          int64           `json:"run_id"`
	RunKey         string          `json:"run_key"`
	ConversationID int64           `json:"conversation_id"`
	Type           string          `json:"event_type"`
	Payload        json.RawMessage `json:"payload"`
	CreatedAt      time.Time       `json:"created_at"`
}

// maxEvent bounds one event; a payload has at most 256 KiB.
const maxEvent = 4 << 20

// ReadStream reads an event stream to its end. It ends the test if the stream has a
// gap, a duplicate or a wrong order: ids must rise, and the sequences of each run must
// count from 1 without a gap. Use it for requests without cursors, whose streams begin
// at the first event. The client may be nil.
func ReadStream(tb testing.TB, client *http.Client, r *http.Request) []Event {
	tb.Helper()
	if client == nil {
		client = http.DefaultClient
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	answer, err := client.Do(r.WithContext(ctx))
	must(tb, "open stream", err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != sse.ContentType {
		tb.Fatalf("webtriggertest: open stream %s: status %s, type %q", r.URL, answer.Status, answer.Header.Get("Content-Type"))
	}
	events, err := readAll(answer.Body)
	must(tb, "read stream", err)
	must(tb, "stream", contiguous(events))
	return events
}

func readAll(body io.Reader) (events []Event, err error) {
	reader := sse.NewReader(body, maxEvent)
	for {
		frame, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		if frame.Name != "" {
			return nil, errors.New("a frame is named " + frame.Name + ": " + string(frame.Data))
		}
		var e Event
		if err := json.Unmarshal(frame.Data, &e); err != nil {
			return nil, err
		}
		if frame.ID != strconv.FormatInt(e.ID, 10) {
			return nil, errors.New("the frame with the id " + frame.ID + " has event " + strconv.FormatInt(e.ID, 10))
		}
		events = append(events, e)
	}
}

// contiguous returns the first gap or disorder of the events.
func contiguous(events []Event) error {
	last, sequences := int64(0), make(map[int64]int64)
	for _, e := range events {
		if e.ID <= last {
			return errors.New("event " + strconv.FormatInt(e.ID, 10) + " comes after event " + strconv.FormatInt(last, 10))
		}
		if want := sequences[e.RunID] + 1; e.Sequence != want {
			return errors.New("run " + strconv.FormatInt(e.RunID, 10) + " has sequence " + strconv.FormatInt(e.Sequence, 10) +
				" instead of " + strconv.FormatInt(want, 10))
		}
		last, sequences[e.RunID] = e.ID, e.Sequence
	}
	return nil
}
