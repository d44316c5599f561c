//go:build !race

package stream_test

const raceOverhead = 0
