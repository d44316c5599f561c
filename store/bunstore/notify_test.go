package bunstore

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

func TestPauseAfterNote_growsWithTheConversations(t *testing.T) {
	t.Parallel()
	for conversations, want := range map[int]time.Duration{0: 2 * time.Millisecond, 4: 3 * time.Millisecond, 32: 10 * time.Millisecond, 1000: 10 * time.Millisecond} {
		require.Equal(t, want, pauseAfterNote(webtrigger.Hint{Queued: true, Conversations: make([]int64, conversations)}))
	}
}

// What a process sends as a hint it recognizes without decoding it, and nothing else.
func TestIsOwnHint(t *testing.T) {
	t.Parallel()
	s := &Store{process: "0f"}
	ping, err := json.Marshal(note{Process: "0f", Ping: "nonce"})
	require.NoError(t, err)
	many := webtrigger.Hint{Conversations: make([]int64, 5000)}
	for i := range many.Conversations {
		many.Conversations[i] = int64(i)
	}
	for _, hint := range []webtrigger.Hint{{Queued: true}, {Pending: true}, {Conversations: []int64{1}}, {Stopped: []int64{1}}, many} {
		require.True(t, s.isOwnHint(encodeNote("0f", hint)))
		require.False(t, s.isOwnHint(encodeNote("0f1", hint)))
		require.False(t, s.isOwnHint(encodeNote("", hint)), "of a host's transaction")
	}
	require.False(t, s.isOwnHint(string(ping)))
	for _, payload := range []string{"", "{", `{"p":"0f"`, `{"q":true,"p":"0f"}`} {
		require.False(t, s.isOwnHint(payload))
	}
}
