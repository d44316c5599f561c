// Package crashtest holds the tests that kill processes: replicas of a small
// host on one Postgres, or one on an SQLite file, ended by SIGKILL at random
// instants and at named points. There is nothing to import.
package crashtest
