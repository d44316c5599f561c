package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		`/tool order_status {"id": 7}`:      "completed: The tool said: order 7 is on its way\n",
		`/tool cancel_order {"id": 7}`:      `completed: The tool said: {"cancelled":7,"for":"1","receipt":"call_1"}` + "\n",
		`/tool order_status {"id": "many"}`: "completed: The tool said: Error: the arguments are not valid: at /id: type: must be integer. Call the tool again with one JSON object that meets its schema.\n",
		`/fail the model is unavailable`:    "failed: the model is unavailable\n",
	} {
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), &out, message))
		require.Equal(t, want, out.String())
	}
}
