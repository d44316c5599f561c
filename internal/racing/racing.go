// Package racing is for tests and the race detector.
package racing

import (
	"runtime"
	"runtime/debug"
	"slices"
)

// Detected reports whether this program was built with the race detector.
func Detected() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// OneProcessor limits this program to one processor if it has the race detector. TestMain
// calls it where tests spend minutes in bubbles of testing/synctest: the timers of a bubble
// share one thread of the detector, and when two processors run such timers at the same
// time, the detector crashes (Go 1.26: SIGSEGV below runtime.(*timer).unlockAndRun).
//
// The detector still finds the races: it compares the order of accesses, not their times,
// and the scheduler picks goroutines at random. The other processors run other packages.
func OneProcessor() {
	if Detected() {
		runtime.GOMAXPROCS(1)
	}
}
