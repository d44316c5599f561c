package main

import "github.com/webtrigger-go/webtrigger/bench/internal/serve"

// stepsPath measures the effect of each optimization by disabling it.
func stepsPath() path {
	p := path{
		name:    "steps",
		about:   "as complete, without one of the steps of the hot paths",
		clients: 64,
		columns: []string{"runs/s", "p50 µs", "p99 µs", "server µs", "postgres µs"},
		variants: []variant{
			{product, complete("webtrigger", serve.Config{Workers: executors})},
		},
	}
	for _, step := range []serve.Step{serve.Batches, serve.Take, serve.Prepared, serve.Notifications} {
		p.variants = append(p.variants, variant{"no " + string(step), complete("webtrigger", serve.Config{Workers: executors, Without: step})})
	}
	return p
}
