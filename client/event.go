package client

import (
	"encoding/json"
	"fmt"
	"time"
)

// Event is one stored step of a run.
type Event struct {
	ID             int64           `json:"id"`       // rises within the conversation
	Sequence       int64           `json:"sequence"` // 1, 2, 3 … within the run
	RunID          int64           `json:"run_id"`
	RunKey         string          `json:"run_key"`
	ConversationID int64           `json:"conversation_id"`
	Type           string          `json:"event_type"`
	Payload        json.RawMessage `json:"payload"` // a JSON object
	CreatedAt      time.Time       `json:"created_at"`
}

// Terminal reports whether the event is the last of its run.
func (e *Event) Terminal() bool {
	switch e.Type {
	case "run_completed", "run_failed", "run_cancelled", "run_timed_out":
		return true
	}
	return false
}

// GapError reports that events were purged before the stream could deliver them:
// some or all of those with ids from FromID to ToID. If the loop over the stream
// continues, the stream continues after them.
type GapError struct {
	FromID int64 `json:"from_id"`
	ToID   int64 `json:"to_id"`
}

// Error names the range of the purged events.
func (e *GapError) Error() string {
	return fmt.Sprintf("client: events from %d to %d were purged", e.FromID, e.ToID)
}
