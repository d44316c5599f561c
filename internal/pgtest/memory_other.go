//go:build unix && !linux

package pgtest

const memoryDir = ""

func bytesInMemory() uint64 { return 0 }
