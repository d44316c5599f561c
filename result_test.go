package webtrigger_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

func TestDecodeResult(t *testing.T) {
	t.Parallel()
	completed := func(result string) *webtrigger.Run {
		return &webtrigger.Run{Status: webtrigger.RunCompleted, Result: result}
	}
	var sum struct{ Total int64 }
	require.NoError(t, completed(` {"total": 9007199254740993} `).DecodeResult(&sum))
	require.EqualValues(t, 9007199254740993, sum.Total)

	var anything any
	require.NoError(t, completed(`{"total": [1e400, null]}`).DecodeResult(&anything))
	require.Equal(t, map[string]any{"total": []any{json.Number("1e400"), nil}}, anything)

	for _, text := range []string{"", "It is done.", `{"total": 1} and more`, `{"total": 1}{}`, `{"total"`} {
		require.ErrorContains(t, completed(text).DecodeResult(&anything), "it is not JSON", text)
	}
	require.ErrorContains(t, completed(`{"total": "many"}`).DecodeResult(&sum), "int64")
	running := &webtrigger.Run{Status: webtrigger.RunRunning}
	require.ErrorContains(t, running.DecodeResult(&anything), "the run is running")
}
