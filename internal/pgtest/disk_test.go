//go:build unix

package pgtest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// A server whose disk is full stores nothing, and continues when there is space.
func TestDisk_full_rejectsWrites(t *testing.T) {
	t.Parallel()
	pgtest.Shared(t) // skips the test if PostgreSQL is missing
	disk, err := pgtest.NewDisk(200 << 20)
	if errors.Is(err, pgtest.ErrNoDisk) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(disk.Close)
	s := start(t, &pgtest.Options{Disk: disk})
	query(t, s, "postgres", `CREATE TABLE kept (n int)`)
	require.NoError(t, disk.Fill())
	_, err = s.Psql("postgres", `INSERT INTO kept SELECT generate_series(1, 10000)`)
	require.ErrorContains(t, err, "No space left on device")
	require.NoError(t, disk.Free())
	require.NoError(t, disk.Free(), "a second time")
	require.Eventually(t, func() bool {
		_, err = s.Psql("postgres", `INSERT INTO kept SELECT generate_series(1, 10000)`)
		return err == nil
	}, time.Minute, 50*time.Millisecond)
}
