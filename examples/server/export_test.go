package main

import (
	"fmt"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
)

// Main is the server.
func Main() { main() }

// Door is the sign-in, with a handler behind it that responds with 204.
func Door(password string) http.Handler {
	d := newDoor(password, false)
	mux := http.NewServeMux()
	mux.HandleFunc("/login", d.signIn)
	mux.Handle("/admin/", d.protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.authorize(r, webtrigger.Access{}) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})))
	mux.HandleFunc("/callers", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, len(d.attempts.callers))
	})
	return mux
}

// MaxCallers bounds the callers that the sign-in remembers.
const MaxCallers = maxCallers
