//go:build unix

package pgtest

import (
	"os"
	"path/filepath"
)

// parent returns the directory in which the account's is made.
//
// A database has some 300 files, and on many a disk their creation is what
// takes longest: in memory a server starts twice as fast, and a database is
// created in a tenth of the time.
func (a *account) parent(volatile bool) string {
	if volatile && os.Getenv("TMPDIR") == "" && bytesInMemory() >= 2<<30 && a.mayUse(memoryDir) {
		return memoryDir
	}
	// The path of a socket must be shorter than some 100 bytes.
	if dir, err := filepath.Abs(os.TempDir()); err == nil && len(dir) <= 64 && a.mayUse(dir) {
		return dir
	}
	return "/tmp"
}

// mayUse reports whether the account can make and remove entries in dir. It is
// only looked at for another account than this process's.
func (a *account) mayUse(dir string) bool {
	if a.credential == nil {
		return true
	}
	need := os.FileMode(0o003) // write and search dir,
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&need != need {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir, need = parent, 0o001 // and search what is above
	}
}
