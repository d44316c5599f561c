// Package hostile calls back receivers that misbehave in every way that we could think of. It is a test program of its own
// because it measures the memory of all of it.
package hostile
