// Package pgxlisten receives the notifications of the bun store over a connection of
// pgx. A host that opens its pool with pgx/v5/stdlib sets
//
//	bunstore.Options{Listen: pgxlisten.Listen(dsn)}
//
// Without it, the processes of such a host find each other's work by polls only,
// within 2 seconds. It is a module of its own, so that hosts on pgdriver do not depend
// on pgx.
package pgxlisten

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Func is the type of bunstore.Options.Listen.
type Func = func(ctx context.Context, channel string, listening func(), notify func(payload string)) error

// Listen returns a listener that connects with a connection string: a URL or
// keyword/value pairs, as [pgx.ParseConfig] reads them. The connection is in addition
// to the pool. It must lead to the server itself or to a session pooler: LISTEN does
// not work through PgBouncer in transaction mode.
func Listen(dsn string) Func {
	return listen(func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, dsn) })
}

// ListenConfig is [Listen] with a configuration that [pgx.ParseConfig] has made.
func ListenConfig(config *pgx.ConnConfig) Func {
	return listen(func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, config.Copy()) })
}

// closeTimeout bounds the close of a connection whose server may be lost.
const closeTimeout = time.Second

func listen(connect func(ctx context.Context) (*pgx.Conn, error)) Func {
	return func(ctx context.Context, channel string, listening func(), notify func(payload string)) error {
		conn, err := connect(ctx)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		defer func() {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			_ = conn.Close(closing)
		}()
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		listening()
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return fmt.Errorf("receive: %w", err)
			}
			notify(n.Payload)
		}
	}
}
