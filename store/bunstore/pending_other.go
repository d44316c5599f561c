//go:build !unix

package bunstore

// pending reports whether an idle connection has data to read. This system does not
// report it.
func pending(any) bool { return false }
