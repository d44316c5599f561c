// Package replicatest holds the tests of what the API promises over several
// replicas on one Postgres: one run for an idempotency key, waits that end with
// the run, cancellation and revocation that act everywhere. There is nothing to
// import.
package replicatest
