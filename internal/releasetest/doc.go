// Package releasetest tests the release procedure, scripts/release.sh, by building
// hosts from the modules that it tags.
package releasetest
