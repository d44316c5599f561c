// Package steptest holds the tests of recorded steps: of Step, and of an agent whose
// process is killed at each boundary of its steps. There is nothing to import.
package steptest
