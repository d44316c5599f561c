package bunstore

import (
	"context"
	"database/sql"
	"sync"

	"github.com/uptrace/bun"
)

// kept keeps one connection of a pool from others, so that heartbeats do not wait for
// a connection while the pool is exhausted. A nil kept returns all connections to the
// pool.
type kept struct {
	mu     sync.Mutex
	conn   *bun.Conn // nil: none, or in use
	closed bool
}

// borrow returns the kept connection, or one of the pool.
func (k *kept) borrow(ctx context.Context, db *bun.DB) (bun.Conn, error) {
	if k != nil {
		k.mu.Lock()
		conn := k.conn
		k.conn = nil
		k.mu.Unlock()
		if conn != nil {
			reservations.add(db.DB, -1)
			return *conn, nil
		}
	}
	return db.Conn(ctx)
}

// giveBack keeps a connection, or returns it to the pool.
func (k *kept) giveBack(conn bun.Conn, db *bun.DB, broken bool) {
	if k != nil && !broken {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.conn == nil && !k.closed && reservations.add(db.DB, 1) {
			k.conn = &conn
			return
		}
	}
	_ = conn.Close()
}

// release returns the kept connection to the pool.
func (k *kept) release(db *bun.DB) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == nil {
		return nil
	}
	conn := k.conn
	k.conn = nil
	reservations.add(db.DB, -1)
	return conn.Close()
}

// close is release for good.
func (k *kept) close(db *bun.DB) error {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	return k.release(db)
}

// reservations counts the kept connections of each pool, which several stores may
// share: they keep at most a quarter of it.
var reservations = poolCounts{counts: make(map[*sql.DB]int)}

type poolCounts struct {
	mu     sync.Mutex
	counts map[*sql.DB]int
}

// add reports whether the pool may have that many kept connections.
func (p *poolCounts) add(db *sql.DB, n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := p.counts[db] + n
	if most := db.Stats().MaxOpenConnections; n > 0 && most > 0 && 4*count > most {
		return false
	}
	if p.counts[db] = count; count == 0 {
		delete(p.counts, db)
	}
	return true
}
