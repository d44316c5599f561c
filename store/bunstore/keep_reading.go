package bunstore

import (
	"context"
	"net"
	"time"
)

// keepReading makes a connection wait for its answers until ctx ends. pgdriver would
// give up after its ReadTimeout, by default 10 s, which a migration may need longer
// than. It sets that deadline on the network connection with each statement, and
// this moves it on.
func keepReading(ctx context.Context, l *lent) (stop func()) {
	var conn net.Conn
	_ = l.Raw(func(raw any) error {
		if driverConn, ok := raw.(interface{ Conn() net.Conn }); ok {
			conn = driverConn.Conn()
		}
		return nil
	})
	if conn == nil {
		return func() {}
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				deadline, _ := ctx.Deadline() // zero: none
				_ = conn.SetReadDeadline(deadline)
			case <-ctx.Done():
				_ = conn.SetReadDeadline(time.Now())
				<-done
				return
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-stopped }
}
