package client

import (
	"encoding/json"
	"fmt"
	"time"
)

// Event is one step in the life of a run.
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

// GapError says that events have been purged before they were read: some or all
// of those with ids from FromID to ToID. A Stream that yields one goes on behind
// it if the loop does.
type GapError struct {
	FromID int64 `json:"from_id"`
	ToID   int64 `json:"to_id"`
}

func (e *GapError) Error() string {
	return fmt.Sprintf("client: events from %d to %d have been purged", e.FromID, e.ToID)
}
