// Package pgx holds the bun store to its contract on another driver than the
// documented one: pgx, through database/sql.
package pgx
