package ssetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Reader reads a stream as a client does.
type Reader struct {
	Response *http.Response
	Retries  int // "retry:" lines so far
	lines    *bufio.Reader
	cancel   context.CancelFunc
}

// NewReader reads a response. The caller must close it.
func NewReader(resp *http.Response) *Reader {
	return &Reader{Response: resp, lines: bufio.NewReader(resp.Body), cancel: func() {}}
}

// Close drops the connection.
func (r *Reader) Close() {
	r.cancel()
	_ = r.Response.Body.Close()
}

// Event is an event as the stream shows it.
type Event struct {
	Type           string          `json:"event_type"`
	Sequence       int64           `json:"sequence"`
	ID             int64           `json:"id"`
	RunID          int64           `json:"run_id"`
	RunKey         string          `json:"run_key"`
	ConversationID int64           `json:"conversation_id"`
	Payload        json.RawMessage `json:"payload"`
	CreatedAt      string          `json:"created_at"`
}

// Next returns the next event; io.EOF where the stream ended between two frames.
func (r *Reader) Next() (e Event, err error) {
	id, data, err := r.Frame()
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return e, fmt.Errorf("%q: %w", data, err)
	}
	if e.ID != id {
		return e, fmt.Errorf("id line %d of event %d", id, e.ID)
	}
	return e, nil
}

// Frame returns the id and the data of the next event.
func (r *Reader) Frame() (id int64, data string, err error) {
	var lines []string
	for {
		line, err := r.lines.ReadString('\n')
		if err == io.EOF && (line != "" || len(lines) > 0) {
			return 0, "", fmt.Errorf("the stream ended inside a frame: %q %q", lines, line)
		}
		if err != nil {
			return 0, "", err
		}
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			lines = append(lines, line)
			continue
		}
		switch {
		case len(lines) == 1 && lines[0] == ": heartbeat":
			return 0, "", ErrHeartbeat
		case len(lines) == 1 && lines[0] == "retry: 3000":
			r.Retries++
		case len(lines) == 2 && lines[0] == "event: gap" && strings.HasPrefix(lines[1], "data: "):
			gap := &GapError{}
			return 0, "", errors.Join(json.Unmarshal([]byte(lines[1][len("data: "):]), gap), gap)
		case len(lines) == 2 && strings.HasPrefix(lines[0], "id: ") && strings.HasPrefix(lines[1], "data: "):
			id, err := strconv.ParseInt(lines[0][len("id: "):], 10, 64)
			return id, lines[1][len("data: "):], err
		default:
			return 0, "", fmt.Errorf("an unknown frame: %q", lines)
		}
		lines = lines[:0]
	}
}

// ErrHeartbeat is what Next returns for a heartbeat.
var ErrHeartbeat = errors.New("heartbeat")

// GapError is a gap frame.
type GapError struct {
	ConversationID int64 `json:"conversation_id"`
	FromID         int64 `json:"from_id"`
	ToID           int64 `json:"to_id"`
}

func (g *GapError) Error() string { return fmt.Sprintf("gap from %d to %d", g.FromID, g.ToID) }

// Gap reads a gap frame, over heartbeats.
func (r *Reader) Gap(t *testing.T) (from, to int64) {
	t.Helper()
	_, err := r.Event()
	var gap *GapError
	require.ErrorAs(t, err, &gap)
	return gap.FromID, gap.ToID
}

// Event returns the next event, over some heartbeats.
func (r *Reader) Event() (e Event, err error) {
	for range 10 {
		if e, err = r.Next(); !errors.Is(err, ErrHeartbeat) {
			return e, err
		}
	}
	return e, errors.New("nothing but heartbeats")
}

// Beats reads n heartbeats, ten seconds each. A client who does not read is cut.
func (r *Reader) Beats(t *testing.T, n int) {
	t.Helper()
	for range n {
		_, err := r.Next()
		require.ErrorIs(t, err, ErrHeartbeat)
	}
}

// Take returns the ids of the next n events.
func (r *Reader) Take(t *testing.T, n int) []int64 {
	t.Helper()
	ids := make([]int64, n)
	for i := range ids {
		e, err := r.Event()
		require.NoError(t, err, "event %d of %d", i, n)
		ids[i] = e.ID
	}
	return ids
}

// Rest returns the ids of all events until the stream ends, which it must do
// cleanly.
func (r *Reader) Rest(t *testing.T) []int64 {
	t.Helper()
	ids := []int64{}
	for {
		e, err := r.Event()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return ids
		}
		require.NoError(t, err)
		ids = append(ids, e.ID)
	}
}

// IDs is from, from+1 … to.
func IDs(from, to int64) []int64 {
	list := []int64{}
	for id := from; id <= to; id++ {
		list = append(list, id)
	}
	return list
}
