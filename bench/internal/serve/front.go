package serve

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

var keyHash = sha256.Sum256([]byte(Key))

// trigger is a request as references and peers read it.
type trigger struct {
	Message     string          `json:"message"`
	Subject     string          `json:"subject"`
	Context     json.RawMessage `json:"context"`
	CallbackURL *string         `json:"callback_url"`
	Metadata    json.RawMessage `json:"metadata"`
}

// metadata is the metadata as an argument of a statement.
func (t *trigger) metadata() *string {
	if t.Metadata == nil {
		return nil
	}
	s := string(t.Metadata)
	return &s
}

// front is the least HTTP that a trigger endpoint can have: the key's hash
// compared in memory, a bounded body, encoding/json, a 202 with JSON. create
// stores the trigger and returns its id.
func front(create func(context.Context, *trigger) (id int64, err error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/assistants/{id}/web-trigger", func(w http.ResponseWriter, r *http.Request) {
		if !authorized(r) {
			http.Error(w, "no such key", http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		t := &trigger{Subject: "Web trigger (bench)"}
		if err := json.Unmarshal(body, t); err != nil || t.Message == "" {
			http.Error(w, "no such trigger", http.StatusBadRequest)
			return
		}
		id, err := create(r.Context(), t)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(struct {
			TriggerID int64  `json:"trigger_id"`
			Status    string `json:"status"`
			StatusURL string `json:"status_url"`
		}{id, "accepted", "http://" + r.Host + "/api/v1/web-triggers/" + strconv.FormatInt(id, 10) + "/status"})
	})
	return mux
}

// authorized compares the hash of the request's key with the one that is known.
func authorized(r *http.Request) bool {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return sha256.Sum256([]byte(token)) == keyHash
}

// serveNull accepts triggers and stores nothing: no trigger creation can be faster.
func serveNull(context.Context, Config) (*child.Server, error) {
	var last atomic.Int64
	return &child.Server{Measured: front(func(context.Context, *trigger) (int64, error) { return last.Add(1), nil })}, nil
}
