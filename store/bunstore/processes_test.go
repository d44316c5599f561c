package bunstore_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// renewed renews a process.
func renewed(t *testing.T, s webtrigger.Store, p webtrigger.Process) webtrigger.Renewed {
	t.Helper()
	renewed, err := s.RenewProcess(t.Context(), p)
	require.NoError(t, err)
	return renewed
}

// A renewal waits for a sweep that is marking the process as lost, and then stores
// nothing.
func TestRenewProcess_markInProgress_isFenced(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	p := registered(t, s, time.Hour)
	mark, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = mark.ExecContext(ctx, `UPDATE webtrigger_processes SET lost_at = now() WHERE id = ?`, p.ID)
	require.NoError(t, err)
	answer := make(chan webtrigger.Renewed, 1)
	go func() {
		renewed, err := s.RenewProcess(ctx, p)
		if err != nil {
			t.Error(err)
		}
		answer <- renewed
	}()
	awaitBlocked(t, db, 1)
	require.NoError(t, mark.Commit())
	require.Equal(t, webtrigger.Renewed{}, <-answer)
	require.Zero(t, count(t, db, `SELECT count(*) FROM webtrigger_processes WHERE contact_since <> registered_at`))
}

// smallPool is a pool of few connections.
func smallPool(t *testing.T, dsn string, connections int, opts ...pgdriver.Option) *bun.DB {
	t.Helper()
	db := sql.OpenDB(pgdriver.NewConnector(append(opts, pgdriver.WithDSN(dsn))...))
	db.SetMaxOpenConns(connections)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return bun.NewDB(db, pgdialect.New())
}

// exhausted takes the connections that a process leaves in a pool.
func exhausted(t *testing.T, db *bun.DB) (release func()) {
	t.Helper()
	var taken []bun.Conn
	for len(taken) < db.DB.Stats().MaxOpenConnections-1 {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		taken = append(taken, conn)
	}
	return func() {
		for _, conn := range taken {
			require.NoError(t, conn.Close())
		}
	}
}

// Heartbeats have a connection of their own, so that they do not wait while all others
// are in use. The process gives it back when it is removed, and the store when it is
// closed.
func TestRenewProcess_exhaustedPool_doesNotWait(t *testing.T) {
	t.Parallel()
	ctx, dsn := t.Context(), schemas.Database(t)
	migrated(t, postgresDB(t, dsn), nil)
	for _, opts := range []*bunstore.Options{nil, {NoPreparedStatements: true}} {
		db := smallPool(t, dsn, 4)
		s, err := bunstore.New(db, opts)
		require.NoError(t, err)
		p := registered(t, s, time.Hour)
		run := claimedBy(t, s, p, 1, storeTrigger(t, s).ID)[0]
		release := exhausted(t, db)
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_, err = s.RunByID(short, run.Run.ID)
		require.ErrorIs(t, err, context.DeadlineExceeded, "the pool is not exhausted")
		for range 3 {
			require.Equal(t, []webtrigger.HeldClaim{{Lease: run.Lease}}, renewed(t, s, p).Claims)
		}
		require.ErrorIs(t, s.RemoveProcess(ctx, p.ID), webtrigger.ErrConflict)
		release()
		finished(t, s, run.Lease)
		require.NoError(t, s.RemoveProcess(ctx, p.ID))
		eventually(t, func() bool { return db.DB.Stats().InUse == 0 }) // also after the last notification
		registered(t, s, time.Hour)
		require.Equal(t, 1, db.DB.Stats().InUse)
		require.NoError(t, s.Close())
		require.Zero(t, db.DB.Stats().InUse, "the closed store keeps its connection")
	}
}

// The stores of one pool keep at most a quarter of its connections.
func TestRegisterProcess_manyStores_leaveConnections(t *testing.T) {
	t.Parallel()
	dsn := schemas.Database(t)
	db := smallPool(t, dsn, 8)
	for range 5 {
		s := migrated(t, db, nil)
		p := registered(t, s, time.Hour)
		require.True(t, renewed(t, s, p).Registered)
	}
	require.Equal(t, 2, db.DB.Stats().InUse)

	single := smallPool(t, dsn, 3)
	s := opened(t, single, nil)
	registered(t, s, time.Hour)
	require.Zero(t, single.DB.Stats().InUse)
}

// A heartbeat whose connection the server has closed goes over another one.
func TestRenewProcess_lostConnection_usesAnother(t *testing.T) {
	t.Parallel()
	dsn := schemas.Database(t)
	db, admin := smallPool(t, dsn, 4), postgresDB(t, dsn)
	s := migrated(t, db, nil)
	p := registered(t, s, time.Hour)
	for range 3 {
		require.Positive(t, count(t, admin, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`))
		require.True(t, renewed(t, s, p).Registered)
		require.Equal(t, 1, db.DB.Stats().InUse)
	}
}

// A heartbeat whose answer does not come is sent again over another connection: its
// outcome is unknown, and it may be repeated.
func TestRenewProcess_noAnswer_isRepeated(t *testing.T) {
	t.Parallel()
	dsn := schemas.Database(t)
	db, admin := smallPool(t, dsn, 4, pgdriver.WithReadTimeout(2*time.Second)), postgresDB(t, dsn)
	migrated(t, admin, nil)
	s := opened(t, db, nil)
	p := registered(t, s, time.Hour)
	release := heldRow(t, admin, `SELECT 1 FROM webtrigger_processes FOR UPDATE`)
	answer := make(chan error, 1)
	go func() {
		_, err := s.RenewProcess(t.Context(), p)
		answer <- err
	}()
	awaitBlocked(t, admin, 2) // the server has not detected yet that the caller of the first has left
	release()
	require.NoError(t, <-answer)
}

// A run whose creation the store declines to claim counts toward the limit of queued
// runs, as all queued ones.
func TestCreateTrigger_unregisteredProcess_countsTowardLimit(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx := t.Context()
		s := migrated(t, open(), nil)
		for _, key := range []string{"", "key"} {
			trigger := newTrigger()
			if key != "" {
				trigger = keyed(key, 1)
			}
			trigger.AssistantID = "a" + key
			trigger.MaxQueued = 1
			trigger.Claim = &webtrigger.Claimant{ProcessID: "absent", Token: webtrigger.NewToken()}
			first, err := s.CreateTrigger(ctx, trigger)
			require.NoError(t, err)
			require.Nil(t, first.Lease)
			require.Equal(t, webtrigger.RunQueued, first.Run.Status)
			second := newTrigger()
			second.AssistantID, second.MaxQueued, second.Claim = trigger.AssistantID, 1, trigger.Claim
			_, err = s.CreateTrigger(ctx, second)
			require.ErrorIs(t, err, webtrigger.ErrQueueFull)
			second.Claim = &webtrigger.Claimant{ProcessID: registered(t, s, time.Hour).ID, Token: webtrigger.NewToken()}
			accepted, err := s.CreateTrigger(ctx, second)
			require.NoError(t, err)
			require.Equal(t, &webtrigger.Lease{RunID: accepted.Run.ID, Token: second.Claim.Token}, accepted.Lease)
		}
	})
}

// A claim of a delivery that is still under way while its holder returns it is fenced:
// the return waits for it and undoes it.
func TestReturnDelivery_stalledClaim_isUndone(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	accepted, err := s.CreateTrigger(ctx, callbackTrigger())
	require.NoError(t, err)
	finished(t, s, claimed(t, s, accepted.Run.ID).Lease)
	leased, err := s.LeaseDeliveries(ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: time.Minute, Limit: 1})
	require.NoError(t, err)
	require.Len(t, leased, 1)

	claim, err := db.BeginTx(ctx, nil) // its commit stalls
	require.NoError(t, err)
	_, err = claim.ExecContext(ctx, `UPDATE webtrigger_deliveries SET state = 'sending', attempted_at = now()`)
	require.NoError(t, err)
	returned, repeated := make(chan error, 1), make(chan error, 1)
	go func() { returned <- s.ReturnDelivery(ctx, leased[0].Lease) }()
	awaitBlocked(t, db, 1)
	go func() { repeated <- s.ClaimDelivery(ctx, leased[0].Lease) }() // after the return
	awaitBlocked(t, db, 2)
	require.NoError(t, claim.Commit())
	require.NoError(t, <-returned)
	require.ErrorIs(t, <-repeated, webtrigger.ErrLeaseLost)
	d, err := s.Delivery(ctx, leased[0].Delivery.ID)
	require.NoError(t, err)
	require.Equal(t, leased[0].Delivery, d)
}
