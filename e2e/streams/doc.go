// Package streams holds the event stream against readers and proxies that others
// have written: two Go libraries and one of Node.js, directly and behind nginx.
package streams
