package egress

import (
	"context"
	"net"
	"syscall"
)

// Dial is the guard's own dialer, with its control hook.
func (g *Guard) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return g.dial(ctx, network, address)
}

// PrefersGo reports whether lookups use Go's own resolver.
func (g *Guard) PrefersGo() bool { return g.resolver.preferGo }

// Control is the hook itself.
func (g *Guard) Control(network, address string, c syscall.RawConn) error {
	return g.control(network, address, c)
}
