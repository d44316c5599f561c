package pgtest

import "syscall"

// memoryDir is a file system in memory that everybody may write to.
const memoryDir = "/dev/shm"

// bytesInMemory returns how much memoryDir has room for, 0 if it is not in
// memory.
func bytesInMemory() uint64 {
	const tmpfs = 0x01021994
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memoryDir, &fs); err != nil || int64(fs.Type) != tmpfs {
		return 0
	}
	return fs.Bavail * uint64(fs.Bsize)
}
