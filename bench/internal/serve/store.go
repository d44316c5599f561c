package serve

import (
	"context"
	"fmt"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// openStore opens the store that a configuration names.
func openStore(ctx context.Context, c Config) (webtrigger.Store, error) {
	switch c.Store {
	case Memory:
		return memstore.New(nil), nil
	case Postgres:
		return openPostgres(ctx, c)
	case SQLite:
		return openSQLite(ctx, c.DSN)
	}
	return nil, fmt.Errorf("there is no store %q", c.Store)
}
