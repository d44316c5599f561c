package bunstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// stateError is an error of a server with an SQLSTATE.
type stateError string

func (e stateError) Error() string    { return "state " + string(e) }
func (e stateError) SQLState() string { return string(e) }

// Wrap returns ErrNotStored only if nothing was stored for certain.
func TestWrap_unavailable_reportsWhetherDataWasStored(t *testing.T) {
	t.Parallel()
	s := new(Store)
	for err, notStored := range map[error]bool{
		driver.ErrBadConn:        true,
		&net.OpError{Op: "dial"}: true,
		stateError("25006"):      true, // a read-only server
		stateError("25P03"):      true, // the transaction was idle for too long
		stateError("25P04"):      true, // the transaction took too long
		stateError("40001"):      true, // rolled back
		stateError("53100"):      true, // a full disk
		stateError("57P01"):      true, // terminated, and not between commit and answer
		stateError("57P03"):      true, // starting up
		errors.New("database is locked (5) (SQLITE_BUSY)"): true,
		context.DeadlineExceeded:                           false,
		&net.OpError{Op: "read"}:                           false,
		stateError("08006"):                                false, // the connection failed
		stateError("40003"):                                false, // completion unknown
		stateError("57014"):                                false, // cancelled, perhaps while it waited for a standby
		stateError("57P02"):                                false, // the server crashed
	} {
		wrapped := s.wrap("create trigger", fmt.Errorf("from the driver: %w", err))
		require.ErrorIs(t, wrapped, webtrigger.ErrUnavailable, "%v", err)
		require.Equal(t, notStored, errors.Is(wrapped, webtrigger.ErrNotStored), "%v", err)
	}
}
