package stream

import (
	"github.com/webtrigger-go/webtrigger/internal/sse"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// frame is one event ready to be sent; it is never changed.
type frame struct {
	id, runID, sequence int64
	terminal            bool
	data                []byte
}

// cost is about how many bytes of memory a frame takes.
func (f *frame) cost() int { return cap(f.data) + 64 }

// frame encodes an event.
func (h *Hub) frame(e *Event) frame {
	type shape struct {
		Type           string `json:"event_type"`
		Sequence       int64  `json:"sequence"`
		ID             int64  `json:"id"`
		RunID          int64  `json:"run_id"`
		RunKey         string `json:"run_key"`
		ConversationID int64  `json:"conversation_id"`
		Payload        any    `json:"payload"`
		CreatedAt      string `json:"created_at"`
	}
	v := shape{e.Type, e.Sequence, e.ID, e.RunID, e.RunKey, e.ConversationID, e.Payload, wire.FormatTime(e.CreatedAt)}
	data, err := wire.Marshal(v)
	if err != nil { // the store returned invalid JSON; the reader's cursor must still advance
		h.opts.Log.Error("event payload is not JSON", "run_id", e.RunID, "event_id", e.ID, "error", err)
		v.Payload = nil
		data, _ = wire.Marshal(v)
	}
	return frame{
		id: e.ID, runID: e.RunID, sequence: e.Sequence, terminal: e.Terminal,
		data: sse.AppendEvent(make([]byte, 0, len(data)+32), e.ID, data),
	}
}

func (h *Hub) encode(events []Event) []frame {
	frames := make([]frame, len(events))
	for i := range events {
		frames[i] = h.frame(&events[i])
	}
	return frames
}

// gapFrame reports that events with ids from…to, some or all, were purged before
// the reader got them. It has no id: the reader's cursor stays where it is
// until an event moves it.
func gapFrame(conversationID, from, to int64) []byte {
	data, _ := wire.Marshal(struct {
		ConversationID int64 `json:"conversation_id"`
		FromID         int64 `json:"from_id"`
		ToID           int64 `json:"to_id"`
	}{conversationID, from, to}) // three numbers
	return sse.AppendNamed(nil, "gap", data)
}
