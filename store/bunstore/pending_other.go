//go:build !unix

package bunstore

// pending reports whether an idle connection has something to read. It is not known
// on this system.
func pending(any) bool { return false }
