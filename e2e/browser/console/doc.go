// Package console holds the tests of the web console: the evaluation server,
// driven in Chromium by hand and eye of a test.
package console
