// Package mounts tests that the URLs in responses lead to the handlers that the host
// has mounted, under every kind of mount and every common router.
package mounts
