package main

import (
	"embed"
	"net/http"
)

// watchPage follows a run with the browser's own EventSource. It is static: who
// may see anything is for the stream to decide.
//
//go:embed watch
var watchPage embed.FS

func watch() http.Handler {
	files := http.FileServerFS(watchPage)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy",
			"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		files.ServeHTTP(w, r)
	})
}
