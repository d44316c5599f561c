package pgtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
)

// Disk is a file system of a bounded size, in memory, that can be filled. It ends
// with the process that made it, even if that is killed.
type Disk struct {
	dir    string
	guard  *exec.Cmd
	lives  io.Closer // the guard unmounts when it is closed
	closed atomic.Bool
}

// NewDisk makes a disk. The error is [ErrNoDisk] if this process has no right to. Close the disk
// when done.
func NewDisk(bytes int64) (*Disk, error) {
	dir, err := os.MkdirTemp("/tmp", "webtrigger-disk-") // the path of a socket is short
	if err != nil {
		return nil, fmt.Errorf("pgtest: disk: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0711", bytes)); err != nil {
		os.Remove(dir)
		return nil, fmt.Errorf("%w: %w", ErrNoDisk, err)
	}
	d := &Disk{dir: dir}
	d.guard = exec.Command("/bin/sh", "-c", `cat >/dev/null; umount -l "$1"; rmdir "$1"`, "sh", dir)
	d.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := d.guard.StdinPipe()
	if err == nil {
		err = d.guard.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: disk: %w", err), syscall.Unmount(dir, syscall.MNT_DETACH), os.Remove(dir))
	}
	d.lives = in
	return d, nil
}

// Fill takes all space that is left.
func (d *Disk) Fill() error {
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("pgtest: disk: %w", err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		n, err := f.Write(make([]byte, size))
		switch {
		case errors.Is(err, syscall.ENOSPC) && n == 0:
			size /= 2
		case err != nil && !errors.Is(err, syscall.ENOSPC):
			return fmt.Errorf("pgtest: disk: %w", err)
		}
	}
	return nil
}

// Free ends Fill. Without one it does nothing.
func (d *Disk) Free() error {
	if err := os.Remove(d.filler()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pgtest: disk: %w", err)
	}
	return nil
}

// Close removes the disk with all that is on it. A second call does nothing.
func (d *Disk) Close() {
	if !d.closed.Swap(true) {
		d.lives.Close()
		_ = d.guard.Wait()
	}
}

func (d *Disk) filler() string { return filepath.Join(d.dir, "filler") }
