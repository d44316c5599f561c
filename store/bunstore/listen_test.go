package bunstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// slowToListen is a connection on which LISTEN takes a while to arrive, as
// pgdriver does not wait for the server's answer to it.
type slowToListen struct {
	net.Conn
	late sync.WaitGroup
}

func (c *slowToListen) Write(p []byte) (int, error) {
	if !bytes.Contains(p, []byte("LISTEN")) {
		return c.Conn.Write(p)
	}
	text := bytes.Clone(p)
	c.late.Go(func() {
		<-time.After(500 * time.Millisecond)
		_, _ = c.Conn.Write(text)
	})
	return len(p), nil
}

func (c *slowToListen) Close() error {
	err := c.Conn.Close()
	c.late.Wait()
	return err
}

// The listener does not receive a ping that was sent before its LISTEN. It receives the
// next one, and is not treated as failed.
func TestPingBeforeListen(t *testing.T) {
	t.Parallel()
	dsn := schemas.Database(t)
	writer := migrated(t, postgresDB(t, dsn), nil)
	connector := pgdriver.NewConnector(pgdriver.WithDSN(dsn))
	dial := connector.Config().Dialer
	connector.Config().Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &slowToListen{Conn: conn}, err
	}
	pool := sql.OpenDB(connector)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	var log logtest.Buffer
	began := time.Now()
	heard := hints(t, opened(t, bun.NewDB(pool, pgdialect.New()), &bunstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	stored := make(map[int64]bool)
	for found := false; !found; {
		select {
		case h := <-heard:
			for _, id := range h.Conversations {
				found = found || stored[id]
			}
		case <-tick.C:
			stored[stopped(t, writer).ConversationID] = true
		case <-time.After(time.Minute):
			t.Fatal("received nothing")
		}
	}
	t.Logf("received after %v", time.Since(began))
	require.Empty(t, log.String())
}
