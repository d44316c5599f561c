package main

import (
	"embed"
	"html/template"
	"io/fs"
	"net/http"
	"strings"
)

// The pages of this server, besides the console: home, sign-in, one for unknown paths,
// and one that follows a run. They show no data. The event stream of a run asks for
// the session itself.
//
//go:embed pages watch
var files embed.FS

var pages = template.Must(template.ParseFS(files, "pages/*.html"))

// signInPage is what the sign-in page shows.
type signInPage struct {
	Next    string // the local page to return to
	Message string // "": none
}

func writePage(w http.ResponseWriter, status int, name string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	secure(w.Header())
	w.WriteHeader(status)
	_ = pages.ExecuteTemplate(w, name, data)
}

// secure lets a page load and contact this server only.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
		"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
}

// watch serves the page that follows a run with the browser's own EventSource.
func watch() http.Handler {
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := fs.Stat(files, strings.Trim(r.URL.Path, "/")); err != nil {
			writePage(w, http.StatusNotFound, "missing", nil)
			return
		}
		secure(w.Header())
		server.ServeHTTP(w, r)
	})
}

func styleSheet(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	http.ServeFileFS(w, r, files, "pages/site.css")
}

// home serves the page of the path / and the one for unknown paths.
func home(baseURL string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			writePage(w, http.StatusOK, "home", baseURL)
		} else {
			writePage(w, http.StatusNotFound, "missing", nil)
		}
	})
}
