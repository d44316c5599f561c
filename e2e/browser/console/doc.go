// Package console holds the tests of the web console, and of the page beside it that
// follows a run: the evaluation server, driven in Chromium by hand and eye of a test.
package console
