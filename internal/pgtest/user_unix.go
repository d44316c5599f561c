//go:build unix

package pgtest

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is the account of the programs. Both do not run as root.
type account struct {
	credential *syscall.Credential // nil: as this process does
}

// unprivileged returns this process's own account, or, for root, that of
// postgres, and where there is none that of nobody.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return &account{}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, errors.New("running as root, and there is neither a user postgres nor nobody")
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &account{credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// attributes make a process the account's. It gets a session of its own: an
// interrupt typed at the terminal is the test process's to handle.
func (a *account) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Credential: a.credential}
}

// makeDir makes a directory that belongs to the account and is closed to all
// others.
func (a *account) makeDir(parent, prefix string) (string, error) {
	dir, err := os.MkdirTemp(parent, prefix)
	if err != nil || a.credential == nil {
		return dir, err
	}
	if err := os.Chown(dir, int(a.credential.Uid), int(a.credential.Gid)); err != nil {
		os.Remove(dir)
		return "", err
	}
	return dir, nil
}
