// Package wiretest executes the transcripts of the wire: requests and their
// responses, byte for byte. There is nothing to import.
package wiretest
