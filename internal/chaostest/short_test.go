//go:build unix && !chaos

package chaostest_test

const everyFault = false
