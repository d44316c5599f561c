package pgtest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// freePort returns a port of 127.0.0.1 on which no process listens at the moment.
//
// It is below the range from which systems take the ports of outgoing
// connections. From that range, a client that keeps dialling a server that is
// down would sooner or later be connected to itself, and hold the port.
func freePort() (int, error) {
	for range 100 {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port on 127.0.0.1")
}
