package main_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func testHomePage(t *testing.T, s *server) {
	home := s.do(http.MethodGet, "/", "")
	require.Equal(t, http.StatusOK, home.Status)
	require.Contains(t, home.Header.Get("Content-Security-Policy"), "default-src 'none'")
	require.NotContains(t, home.Body, s.key)
	require.NotContains(t, home.Body, s.password)
	require.Contains(t, home.Body, s.url+"/api/v1/assistants/1/web-trigger")
	for _, want := range []string{"/admin/", "/watch/", "/api/v1/openapi.json", "/healthz"} {
		require.Contains(t, home.Body, `href="`+want+`"`)
	}
	for _, link := range regexp.MustCompile(`(?:href|src)="(/[^"]*)"`).FindAllStringSubmatch(home.Body, -1) {
		require.Equal(t, http.StatusOK, s.do(http.MethodGet, link[1], "", s.basic).Status, link[1])
	}
	require.Equal(t, http.StatusOK, s.do(http.MethodHead, "/", "").Status)
}

func testUnknownPaths(t *testing.T, s *server) {
	for _, path := range []string{"/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/assistants/1", "/api/v1/web-triggers/1", "/api/v1/a/b/c/d"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			got := s.do(method, path, "")
			require.Equal(t, http.StatusNotFound, got.Status, path)
			require.Equal(t, "application/problem+json", got.Header.Get("Content-Type"), path)
			require.Equal(t, "not_found", got.decode(t)["code"], path)
		}
	}
	for _, path := range []string{"/nothing", "/watch/nothing", "/conversations/1"} {
		got := s.do(http.MethodGet, path, "")
		require.Equal(t, http.StatusNotFound, got.Status, path)
		require.Contains(t, got.Body, `<a href="/">`, path)
	}
}

func testWrongMethods(t *testing.T, s *server) {
	for target, allow := range map[string]string{
		"POST /":                                    "GET, HEAD",
		"POST /watch/":                              "GET, HEAD",
		"PUT /watch/watch.js":                       "GET, HEAD",
		"PUT /login":                                "GET, POST, HEAD",
		"GET /logout":                               "POST",
		"DELETE /healthz":                           "GET, HEAD",
		"POST /site.css":                            "GET, HEAD",
		"POST /api/v1/openapi.json":                 "GET, HEAD",
		"PUT /api/v1/openapi.yaml":                  "GET, HEAD",
		"GET /api/v1/assistants/1/web-trigger":      "POST",
		"POST /api/v1/web-triggers/1/status":        "GET",
		"DELETE /conversations/1/agent-events":      "GET",
		"GET /api/v1/web-triggers/1/cancel":         "POST",
		"PROPFIND /api/v1/assistants/1/web-trigger": "POST",
	} {
		method, path, _ := strings.Cut(target, " ")
		got := s.do(method, path, "")
		require.Equal(t, http.StatusMethodNotAllowed, got.Status, target)
		require.Contains(t, got.Header.Get("Allow"), allow, target)
		require.Equal(t, "application/problem+json", got.Header.Get("Content-Type"), target)
		require.Equal(t, "method_not_allowed", got.decode(t)["code"], target)
	}
}
