// Package standardwebhooks holds the callbacks of a real service against the
// verifiers that the Standard Webhooks project publishes, in Go and in
// JavaScript, and the verifier of package client against their signatures.
package standardwebhooks
