package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/openapi"
)

func routes(svc *webtrigger.Service, agent *llm.Agent, cfg *config) (http.Handler, error) {
	door := newDoor(cfg.Password, cfg.secureCookies())
	console, err := admin.NewConsole(svc, door.authorize, &admin.ConsoleOptions{
		Options: admin.Options{Tools: lister(agent), Assistants: listAssistants}, SignIn: "/login", SignOut: "/logout"})
	if err != nil {
		return nil, err
	}
	sameOrigin := http.NewCrossOriginProtection().Handler
	mux := http.NewServeMux()
	mux.Handle("/api/v1", svc)
	mux.Handle("/api/v1/", svc) // also the problem for unknown paths
	mux.Handle("/api/v1/openapi.json", only(openapi.Handler(), http.MethodGet))
	mux.Handle("/api/v1/openapi.yaml", only(openapi.Handler(), http.MethodGet))
	mux.Handle("/conversations/{conversation_id}/agent-events", door.protect(svc.EventsHandler(door.authorize)))
	mux.Handle("/admin/", door.protect(http.StripPrefix("/admin", console))) // its JSON API is at /admin/api
	mux.Handle("/login", only(sameOrigin(http.HandlerFunc(door.signIn)), http.MethodGet, http.MethodPost))
	mux.Handle("/logout", only(sameOrigin(http.HandlerFunc(door.signOut)), http.MethodPost))
	mux.Handle("/healthz", only(health(svc), http.MethodGet))
	mux.Handle("/watch/", only(watch(), http.MethodGet))
	mux.Handle("/site.css", only(http.HandlerFunc(styleSheet), http.MethodGet))
	mux.Handle("/", only(home(cfg.baseURL), http.MethodGet))
	return mux, nil
}

// only responds with 405 to other methods. GET includes HEAD.
func only(next http.Handler, methods ...string) http.Handler {
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			problem(w, http.StatusMethodNotAllowed, "method_not_allowed", "Send "+strings.Join(methods, " or ")+" to this path.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// problem responds with an error as the API does.
func problem(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type":  "https://github.com/webtrigger-go/webtrigger/blob/main/docs/errors.md#" + code,
		"title": http.StatusText(status), "status": status, "detail": detail, "code": code,
	})
}

func health(svc *webtrigger.Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		if err := svc.Ping(ctx); err != nil {
			http.Error(w, "store does not respond", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}

func listAssistants(context.Context) ([]admin.Assistant, error) {
	return []admin.Assistant{{ID: "1", Name: "Evaluation assistant"}, {ID: "2", Name: "Second assistant"}}, nil
}

// lister lists the tools that a task may allow.
func lister(agent *llm.Agent) func(context.Context) ([]admin.Tool, error) {
	return func(context.Context) ([]admin.Tool, error) {
		var tools []admin.Tool
		for _, t := range agent.Tools() {
			tools = append(tools, admin.Tool{Name: t.Name, Description: t.Description})
		}
		return tools, nil
	}
}
