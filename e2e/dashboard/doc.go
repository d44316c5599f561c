// Package dashboard tests docs/grafana-dashboard.json: what it asks Prometheus for
// is compared with what the module otelwebtrigger exports through OpenTelemetry's own
// exporter for Prometheus. It is a module of its own, so that the exporter reaches no host.
package dashboard
