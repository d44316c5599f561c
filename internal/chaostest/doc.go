// Package chaostest holds the campaign: three replicas under the load of ten assistants.
// The replicas are processes, one of them behind PgBouncer, and PostgreSQL has a
// synchronous and an asynchronous standby. Faults disturb them. A ledger outside of the
// product, synced to disk, records what happened. `make chaos` runs many rounds of each
// fault. There is nothing to import.
package chaostest
