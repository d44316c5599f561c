package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// listenPgx receives Web Trigger's notifications over a connection of pgx: what
// bunstore's Listen option wants of a host that is not on pgdriver. They wake
// streams and cancellations across processes; without them a poll finds
// everything within 2 seconds.
func listenPgx(dsn string) func(ctx context.Context, channel string, listening func(), notify func(payload string)) error {
	return func(ctx context.Context, channel string, listening func(), notify func(payload string)) error {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		defer conn.Close(context.WithoutCancel(ctx))
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
