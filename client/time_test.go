package client_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/client"
)

// RFC 3339 §5.6: T and Z may be in lower case.
func TestTime_lowerCase_isDecoded(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"2026-04-15t10:01:23z":          time.Date(2026, 4, 15, 10, 1, 23, 0, time.UTC),
		"2026-04-15T10:01:23Z":          time.Date(2026, 4, 15, 10, 1, 23, 0, time.UTC),
		"2026-04-15t10:01:23.5+02:00":   time.Date(2026, 4, 15, 8, 1, 23, 5e8, time.UTC),
		"9999-12-31T23:59:59.999999z":   time.Date(9999, 12, 31, 23, 59, 59, 999999e3, time.UTC),
		"0001-01-01t00:00:00.000+00:00": {},
	} {
		raw, err := json.Marshal(text)
		require.NoError(t, err)
		var status client.Status
		require.NoError(t, json.Unmarshal([]byte(`{"created_at":`+string(raw)+`,"completed_at":`+string(raw)+`,"trigger_id":7}`), &status))
		require.True(t, want.Equal(status.CreatedAt), text)
		require.True(t, want.Equal(*status.CompletedAt), text)
		require.EqualValues(t, 7, status.TriggerID)
		var event client.Event
		require.NoError(t, json.Unmarshal([]byte(`{"id":7,"created_at":`+string(raw)+`}`), &event))
		require.True(t, want.Equal(event.CreatedAt), text)
		var callback client.Callback
		require.NoError(t, json.Unmarshal([]byte(`{"run_key":"k","completed_at":`+string(raw)+`}`), &callback))
		require.True(t, want.Equal(callback.CompletedAt), text)
	}
	for _, text := range []string{"2026-04-15 10:01:23Z", "2026-04-15", "", "now"} {
		require.Error(t, json.Unmarshal([]byte(`{"created_at":"`+text+`"}`), new(client.Status)), text)
		require.Error(t, json.Unmarshal([]byte(`{"created_at":"`+text+`"}`), new(client.Event)), text)
		require.Error(t, json.Unmarshal([]byte(`{"completed_at":"`+text+`"}`), new(client.Callback)), text)
	}
}

func TestStatus_nullTimes_areZero(t *testing.T) {
	t.Parallel()
	status := client.Status{CreatedAt: time.Unix(1, 0), CompletedAt: new(time.Time)}
	require.NoError(t, json.Unmarshal([]byte(`{"created_at":null,"completed_at":null}`), &status))
	require.True(t, status.CreatedAt.IsZero())
	require.Nil(t, status.CompletedAt)
}
