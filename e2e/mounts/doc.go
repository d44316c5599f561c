// Package mounts holds a test: under every kind of mount and every common router,
// the URLs in responses lead to the handlers that the host has mounted.
package mounts
