// Package outagetest holds the tests of outages: a store that pauses or does not
// commit, a replica that is cut off, a failover, and locks that other transactions
// hold. They run on real PostgreSQL servers. There is nothing to import.
package outagetest
