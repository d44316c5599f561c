package bunstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/storetest"
)

// Where a database makes every transaction serializable, transitions that meet
// fail with a serialization failure and are done again: callers see none of it.
func TestSerializable(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	name := schemas.ForRules(t)
	_, err := server.Psql(name, "ALTER DATABASE "+name+" SET default_transaction_isolation = 'serializable'")
	require.NoError(t, err)
	db := postgresDB(t, server.DSN(name))
	storetest.Run(t, schemas.Stores(db, db, nil), "batches", "claims", "fencing", "idempotency")
}
