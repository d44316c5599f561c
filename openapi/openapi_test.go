package openapi_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/openapi"
)

func get(t *testing.T, method, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	openapi.Handler().ServeHTTP(w, r)
	return w
}

func TestHandler(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ target, accept, mediaType string }{
		{"/api/v1/openapi.json", "", "application/json"},
		{"/api/v1/openapi.json", "application/yaml", "application/json"},
		{"/openapi.yaml", "application/json", "application/yaml"},
		{"/openapi.yml", "", "application/yaml"},
		{"/openapi", "", "application/json"},
		{"/openapi", "application/openapi+yaml", "application/yaml"},
	} {
		w := get(t, http.MethodGet, c.target, "Accept", c.accept)
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, c.mediaType, w.Header().Get("Content-Type"), c.target)
		want := openapi.JSON()
		if c.mediaType == "application/yaml" {
			want = openapi.YAML()
		}
		require.Equal(t, want, w.Body.Bytes())
		again := get(t, http.MethodGet, c.target, "Accept", c.accept, "If-None-Match", w.Header().Get("ETag"))
		require.Equal(t, http.StatusNotModified, again.Code)
		require.Zero(t, again.Body.Len())
	}
	require.Equal(t, http.StatusOK, get(t, http.MethodHead, "/openapi").Code)
	refused := get(t, http.MethodPost, "/openapi")
	require.Equal(t, http.StatusMethodNotAllowed, refused.Code)
	require.Equal(t, "GET, HEAD", refused.Header().Get("Allow"))
}

func TestDocument(t *testing.T) {
	t.Parallel()
	require.True(t, json.Valid(openapi.JSON()))
	require.True(t, bytes.HasPrefix(openapi.YAML(), []byte("openapi: 3.1.0\n")))
	openapi.JSON()[0] = 'x' // what it returns is the caller's own
	require.True(t, json.Valid(openapi.JSON()))
}
