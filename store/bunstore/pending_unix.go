//go:build unix

package bunstore

import (
	"net"
	"syscall"
	"time"
)

// pending reports whether an idle connection of pgdriver has data to read. Then
// its session has ended, or an answer is left over: pgdriver would send the next
// statement and lose the reason for its failure.
func pending(raw any) bool {
	driverConn, ok := raw.(interface{ Conn() net.Conn })
	if !ok {
		return false
	}
	conn := driverConn.Conn()
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = secure.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	access, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil { // the last statement's has passed
		return true
	}
	found := false
	err = access.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		found = n > 0 || err == nil || err != syscall.EAGAIN && err != syscall.EWOULDBLOCK && err != syscall.EINTR
		return true
	})
	return found || err != nil
}
