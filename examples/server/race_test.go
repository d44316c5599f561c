//go:build race

package main_test

// buildFlags makes the server under test like the test itself: with the race
// detector.
var buildFlags = []string{"-race"}
