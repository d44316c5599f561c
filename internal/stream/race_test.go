//go:build race

package stream_test

// raceOverhead is what the race detector adds to the stacks of a stream.
const raceOverhead = 24 << 10
