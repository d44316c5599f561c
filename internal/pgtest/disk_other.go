//go:build !linux

package pgtest

// Disk is supported on Linux only.
type Disk struct{ dir string }

// NewDisk returns [ErrNoDisk].
func NewDisk(int64) (*Disk, error) { return nil, ErrNoDisk }

// Fill returns [ErrNoDisk].
func (d *Disk) Fill() error { return ErrNoDisk }

// Free returns [ErrNoDisk].
func (d *Disk) Free() error { return ErrNoDisk }

// Close does nothing.
func (d *Disk) Close() {}
