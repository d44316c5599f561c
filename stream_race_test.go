//go:build race

package webtrigger_test

// raceOverhead is what the race detector adds to the stacks of a stream.
const raceOverhead = 24 << 10
