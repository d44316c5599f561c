// Package replicatest tests the guarantees of the API over several replicas on one
// Postgres: one run for an idempotency key, waits that end with the run, cancellation and
// revocation that act everywhere. It has tests only.
package replicatest
