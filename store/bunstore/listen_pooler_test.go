package bunstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// A pooler in transaction mode drops LISTEN. The store finds that out and logs it
// once, with the remedy.
func TestWatch_poolerDropsListen_logsRemedyOnce(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	bouncer := server.PgBouncer(t, nil)
	name := schemas.Name(t)
	var log logtest.Buffer
	s := migrated(t, postgresDB(t, bouncer.DSN(name)), &bunstore.Options{NoPreparedStatements: true, Logger: logTo(&log)})
	hints(t, s)
	eventually(t, func() bool { return strings.Contains(log.String(), "level=WARN") })
	for _, word := range []string{"Options.NoNotify", "Options.Listen", "Service.Wake"} {
		require.Contains(t, log.String(), word)
	}
	time.Sleep(7 * time.Second) // a second attempt has failed
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
}
