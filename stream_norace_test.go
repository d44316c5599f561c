//go:build !race

package webtrigger_test

const raceOverhead = 0
