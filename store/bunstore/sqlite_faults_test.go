package bunstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/webtrigger-go/webtrigger"
)

// changing opens each connection with the parameters of that time.
type changing struct {
	driver driver.Driver
	file   string
	params atomic.Pointer[string]
}

func (c *changing) Connect(context.Context) (driver.Conn, error) {
	return c.driver.Open("file:" + c.file + *c.params.Load())
}
func (c *changing) Driver() driver.Driver { return c.driver }
func (c *changing) set(params string)     { c.params.Store(&params) }

func changingSQLite(t *testing.T, file, params string) (*bun.DB, *changing) {
	t.Helper()
	any, err := sql.Open("sqlite", "")
	require.NoError(t, err)
	c := &changing{driver: any.Driver(), file: file}
	require.NoError(t, any.Close())
	c.set(params)
	pool := sql.OpenDB(c)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return bun.NewDB(pool, sqlitedialect.New()), c
}

// The error describes the fault of the file in plain words, callers get 503, and the
// store works again without a restart when the fault is removed.
func TestSQLite_fileTrouble_unavailableUntilPutRight(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, params, want string }{
		{"read-only file", "?mode=ro", "read-only"},
		{"full disk", "?_pragma=max_page_count(1)", "full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(memoryDir(t), "test.db")
			require.NoError(t, os.WriteFile(file, madeSQLite(t), 0o600))
			db, connector := changingSQLite(t, file, c.params)
			s := opened(t, db, nil)
			large := newTrigger()
			large.Input.Message = strings.Repeat("x", 1<<20)
			for range 3 {
				_, err := s.CreateTrigger(t.Context(), large)
				require.ErrorIs(t, err, webtrigger.ErrUnavailable)
				require.ErrorContains(t, err, c.want)
			}
			if c.name == "read-only file" {
				require.ErrorContains(t, s.Ping(t.Context()), c.want)
			}
			connector.set("")
			_, err := s.CreateTrigger(t.Context(), large)
			require.NoError(t, err)
			require.NoError(t, s.Ping(t.Context()))
		})
	}
}

func TestSQLite_missingDirectory_unavailableUntilMade(t *testing.T) {
	t.Parallel()
	file := filepath.Join(memoryDir(t), "later", "test.db")
	s := opened(t, sqliteOpen(t, file), nil)
	for _, check := range []func(context.Context) error{s.Migrate, s.Ping} {
		err := check(t.Context())
		require.ErrorIs(t, err, webtrigger.ErrUnavailable)
		require.ErrorContains(t, err, "its directory must exist")
	}
	require.NoError(t, os.Mkdir(filepath.Dir(file), 0o700))
	require.NoError(t, s.Migrate(t.Context()))
	storeTrigger(t, s)
	require.NoError(t, s.Ping(t.Context()))
}
