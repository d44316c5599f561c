package admin_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// Without Options.SearchTexts, a filter by metadata is an error, not an empty list.
func TestRuns_searchOfTextsOff_rejectsMetadata(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.trigger("1", webtrigger.TriggerRequest{Message: "Refund", Metadata: []byte(`{"id":1}`)})
	for _, call := range []string{"GET /runs?metadata.id=1", "GET /runs/counts?metadata.id=1"} {
		a := h.do(call, "")
		require.Equal(t, http.StatusBadRequest, a.Status)
		require.Contains(t, a.problem().Detail, "metadata.id is not searched by this server")
	}
	a := h.do("POST /runs/cancel", `{"filter":{"metadata":{"id":1}},"dry_run":true}`)
	require.Equal(t, http.StatusUnprocessableEntity, a.Status)
	require.Equal(t, "/filter/metadata/id", a.problem().Errors[0].Pointer)
	found := h.do("GET /runs?q=refund", "").decode()
	require.Empty(t, found["items"])
	require.Equal(t, []any{"subject", "request_id", "error_message", "status_detail"}, found["searched"].(map[string]any)["texts"])
}
