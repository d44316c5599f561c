// Package lanetest has the tests of conversations with several runs: their history,
// their keys, and their lanes, over one process and over several replicas.
package lanetest
