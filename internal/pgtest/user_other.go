//go:build !unix

package pgtest

import (
	"fmt"
	"syscall"
)

// account is whom the programs run as.
type account struct{}

// unprivileged fails: the supervisor needs a Unix shell.
func unprivileged() (*account, error) {
	return nil, fmt.Errorf("PostgreSQL for tests is %w (on Unix systems only)", ErrNotInstalled)
}

func (*account) attributes() *syscall.SysProcAttr { return nil }

func (*account) parent(bool) string { return "" }

func (*account) makeDir(string, string) (string, error) { return "", ErrNotInstalled }
