package openapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/webtrigger-go/webtrigger/openapi"
)

// A host serves the document beside the API.
func ExampleHandler() {
	mux := http.NewServeMux()
	mux.Handle("/api/v1/openapi.json", openapi.Handler())

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/openapi.json", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	// Output: 200 application/json
}
