package child

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Linux reports processes in /proc; see proc_pid_stat(5). Other systems do not have
// these files, and their figures are unknown.

// stat is one process at one instant.
type stat struct {
	name   string
	parent int
	own    time.Duration // processor time, user and system
	reaped time.Duration // that of its children which have ended
}

// tick is the unit of times in /proc, USER_HZ: 100 on every architecture that
// Go runs on.
const tick = time.Second / 100

func readStat(pid int) (s stat, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if err != nil || open < 0 || end < open {
		return stat{}, false
	}
	s.name = string(text[open+1 : end])
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 15 {
		return stat{}, false
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return n
	}
	s.parent = int(number(1))
	s.own = time.Duration(number(11)+number(12)) * tick
	s.reaped = time.Duration(number(13)+number(14)) * tick
	return s, true
}

// Parent returns the id of the process that started pid, and the name of pid's
// program.
func Parent(pid int) (parent int, name string, ok bool) {
	s, ok := readStat(pid)
	return s.parent, s.name, ok
}

// FamilyCPU is the processor time of a process and of all its children, those
// that have ended included.
func FamilyCPU(pid int) (used time.Duration, ok bool) {
	root, ok := readStat(pid)
	if !ok {
		return 0, false
	}
	used = root.own + root.reaped
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		id, _ := strconv.Atoi(filepath.Base(entry))
		if s, ok := readStat(id); ok && s.parent == pid {
			used += s.own
		}
	}
	return used, true
}

// residentBytes is the memory of a process that is in RAM, 0 if that is not
// known.
func residentBytes(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
