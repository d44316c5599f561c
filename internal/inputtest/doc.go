// Package inputtest tests runs that wait for input, in a Service with its workers.
package inputtest
