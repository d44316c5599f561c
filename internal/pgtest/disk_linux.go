package pgtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
)

// Disk is a file system of a bounded size, in memory, that can be filled. It ends
// with the process that made it, even if that is killed.
type Disk struct {
	dir    string
	bytes  int64
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
	d := &Disk{dir: dir, bytes: bytes}
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

// Fill makes the disk as small as its content, so that no space is left.
func (d *Disk) Fill() error {
	var err error
	for range 100 { // the content may grow meanwhile
		var at syscall.Statfs_t
		if err = syscall.Statfs(d.dir, &at); err != nil {
			break
		}
		if err = d.resize(int64(at.Blocks-at.Bfree) * int64(at.Bsize)); !errors.Is(err, syscall.EINVAL) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("pgtest: disk: fill: %w", err)
	}
	return nil
}

// Free ends Fill. Without one it does nothing.
func (d *Disk) Free() error {
	if err := d.resize(d.bytes); err != nil {
		return fmt.Errorf("pgtest: disk: free: %w", err)
	}
	return nil
}

func (d *Disk) resize(bytes int64) error {
	return syscall.Mount("", d.dir, "", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", bytes))
}

// Close removes the disk with all that is on it. A second call does nothing.
func (d *Disk) Close() {
	if !d.closed.Swap(true) {
		d.lives.Close()
		_ = d.guard.Wait()
	}
}
