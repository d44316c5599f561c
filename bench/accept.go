package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/webtrigger-go/webtrigger/bench/internal/load"
	"github.com/webtrigger-go/webtrigger/bench/internal/postgres"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

// loadColumns are the figures of a load over HTTP.
var loadColumns = []string{"req/s", "p50 µs", "p99 µs", "server µs", "postgres µs"}

const product = "webtrigger"

func acceptPath() path {
	return path{
		name:    "accept",
		about:   "POST to 202, durable",
		clients: 64,
		columns: loadColumns,
		variants: []variant{
			{"pgbench", pgbenchAccept},
			{product, accept("webtrigger", serve.Config{}, body(message))},
			{"river-tx", accept("river-tx", serve.Config{}, body(message))},
			{"river-insert", accept("river-insert", serve.Config{}, body(message))},
		},
		goals: []report.Goal{
			{Figure: "req/s", Of: product, Over: "pgbench", Is: report.AtLeast, Bound: 1.5},
			{Figure: "req/s", Of: product, Over: "river-tx", Is: report.AtLeast, Bound: 5},
			{Figure: "req/s", Of: product, Over: "river-insert", Is: report.AtLeast, Bound: 4},
		},
	}
}

func acceptOnePath() path {
	return path{
		name:    "accept-one",
		about:   "POST to 202, durable, one client",
		clients: 1,
		columns: loadColumns,
		variants: []variant{
			{"statement", accept("statement", serve.Config{}, body(message))},
			{product, accept("webtrigger", serve.Config{}, body(message))},
			{"river-tx", accept("river-tx", serve.Config{}, body(message))},
		},
		goals: []report.Goal{
			{Figure: "p50 µs", Of: product, Over: "statement", Is: report.AtMost, Bound: 1.3},
			{Figure: "p50 µs", Of: product, Over: "river-tx", Is: report.AtMost, Bound: 0.6},
		},
	}
}

// acceptMemoryPath has the product twice: accepting only, as the bare server
// does, and executing the runs beside it, as the A2A server does.
func acceptMemoryPath() path {
	return path{
		name:    "accept-memory",
		about:   "POST to 202, in memory",
		clients: 64,
		columns: loadColumns[:4],
		variants: []variant{
			{"null", accept("null", serve.Config{Store: serve.Memory}, body(message))},
			{product, accept("webtrigger", serve.Config{Store: serve.Memory}, body(message))},
			{product + "+runs", accept("webtrigger", serve.Config{Store: serve.Memory, Workers: 64}, body(message))},
			{"a2a", a2aAccept},
		},
		goals: []report.Goal{
			{Figure: "req/s", Of: product, Over: "null", Is: report.AtLeast, Bound: 0.8},
			{Figure: "req/s", Of: product, Over: "a2a", Is: report.AtLeast, Bound: 10},
		},
	}
}

// longPath has messages of the greatest length. Postgres compresses them, which
// is most of the work.
func longPath() path {
	return path{
		name:    "long",
		about:   "POST to 202, durable, messages of 50,000 characters",
		clients: 16,
		columns: loadColumns,
		variants: []variant{
			{product, accept("webtrigger", serve.Config{}, body(longMessage()))},
			{"river-tx", accept("river-tx", serve.Config{}, body(longMessage()))},
		},
		goals: []report.Goal{{Figure: "req/s", Of: product, Over: "river-tx", Is: report.AtLeast, Bound: 1.5}},
	}
}

// accept is a variant that accepts what is posted to the trigger endpoint.
func accept(kind string, config serve.Config, body []byte) func(context.Context, *rig) (report.Figures, error) {
	request := triggerRequest(body)
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		p, err := r.startOn(ctx, kind, config)
		if err != nil {
			return nil, err
		}
		return r.load(p, http.StatusAccepted, func(int, int) []byte { return request })
	}
}

// pgbenchAccept stores triggers with one prepared statement each.
func pgbenchAccept(ctx context.Context, r *rig) (report.Figures, error) {
	dsn, err := r.database(ctx)
	if err != nil {
		return nil, err
	}
	if err := serve.CreateTables(ctx, dsn); err != nil {
		return nil, err
	}
	before, known := r.databaseCPU()
	rate, n, err := r.bench.server.Pgbench(ctx, dsn, serve.AcceptScript(message), r.clients, r.bench.window)
	if errors.Is(err, postgres.ErrNoPgbench) {
		return nil, fmt.Errorf("%w: %w", errSkip, err)
	}
	if err != nil {
		return nil, err
	}
	figures := report.Figures{"req/s": rate}
	if after, ok := r.databaseCPU(); ok && known {
		figures["postgres µs"] = report.Micros(after-before) / n
	}
	return figures, nil
}

// a2aAccept sends messages without waiting for their results.
func a2aAccept(ctx context.Context, r *rig) (report.Figures, error) {
	p, err := r.start("a2a", serve.Config{})
	if err != nil {
		return nil, err
	}
	request := load.Request(http.MethodPost, "/a2a", serve.Key, []byte(`{"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {`+
		`"message": {"kind": "message", "messageId": "m1", "role": "user", "parts": [{"kind": "text", "text": "`+message+`"}], `+
		`"metadata": {"source": "zapier", "zap_id": "456"}}, "configuration": {"blocking": false}}}`))
	return r.load(p, http.StatusOK, func(int, int) []byte { return request })
}

func triggerRequest(body []byte) []byte {
	return load.Request(http.MethodPost, "/api/v1/assistants/1/web-trigger", serve.Key, body)
}

// message is an ordinary message.
const message = "Summarise the latest sales report for the region and list the three largest changes since last week."

// longMessage is one of 50,000 characters that compresses as prose does.
func longMessage() string {
	const length = 50_000
	var b strings.Builder
	for i := 0; b.Len() < length; i++ {
		fmt.Fprintf(&b, "Line %d: region %x sold %d units, up %d percent. ", i, i*7919, i*31%1009, i%17)
	}
	return b.String()[:length]
}

// body is a trigger with everything but a callback: nothing here waits for the
// name of a receiver.
func body(message string) []byte {
	text, err := json.Marshal(map[string]any{
		"message": message, "subject": "Weekly Report",
		"context":  map[string]string{"region": "APAC", "customer": "Acme Corp"},
		"metadata": map[string]string{"source": "zapier", "zap_id": "456"},
	})
	if err != nil {
		panic(err)
	}
	return text
}
