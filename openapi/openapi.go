// Package openapi holds the OpenAPI 3.1 document of the Bearer API and the event
// stream, and serves it. The document is held against the implementation by
// tests.
package openapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"
)

var (
	//go:embed openapi.yaml
	asYAML []byte

	// openapi.json is made of openapi.yaml by the tests of e2e/openapi, so that no
	// YAML library is needed here.
	//go:embed openapi.json
	asJSON []byte
)

// YAML returns the document in YAML, as it was written.
func YAML() []byte { return slices.Clone(asYAML) }

// JSON returns the document in JSON.
func JSON() []byte { return slices.Clone(asJSON) }

// Handler serves the document to GET and HEAD at whatever path it is mounted:
//
//	mux.Handle("/api/v1/openapi.json", openapi.Handler())
//
// It is YAML where the path ends in .yaml or .yml, or where it does not end in
// .json and the Accept header names a YAML type; otherwise JSON. It has a strong
// ETag, needs no authentication and has no data of the host.
func Handler() http.Handler {
	inJSON, inYAML := newForm(asJSON, "application/json"), newForm(asYAML, "application/yaml")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "This method is not allowed on this path. Use GET.", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Add("Vary", "Accept")
		if wantsYAML(r) {
			inYAML.serve(w, r)
			return
		}
		inJSON.serve(w, r)
	})
}

func wantsYAML(r *http.Request) bool {
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, ".json"):
		return false
	case strings.HasSuffix(path, ".yaml"), strings.HasSuffix(path, ".yml"):
		return true
	}
	return strings.Contains(strings.Join(r.Header.Values("Accept"), ","), "yaml")
}

// form is the document in one media type.
type form struct {
	body            []byte
	mediaType, etag string
}

func newForm(body []byte, mediaType string) form {
	sum := sha256.Sum256(body)
	return form{body, mediaType, `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}
}

func (f form) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.mediaType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
}
