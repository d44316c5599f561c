package bunstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// The copies of task definitions that runs keep. A large one is stored once, in
// task_copies under its hash, and runs.task refers to it:
//
//	{"ID":12,#<SHA-256 of the copy, in hex>
//
// This is not JSON, so nothing takes it for a definition. Small copies, those of
// TriggerVia on Postgres, and those of earlier versions are in runs.task themselves.
//
// On Postgres, the first creation with a copy stores it before its batch, in a transaction
// of its own: nothing waits for the key of task_copies in an open transaction. A batch locks
// the copies that it refers to (FOR KEY SHARE, SKIP LOCKED). What has no copy, because
// deleteCopies deletes it, is created alone and keeps the definition itself.

const (
	minCopied   = 1 << 10 // bytes of a copy that is stored once; below, the reference saves little
	manyCopies  = 1000    // hashes that a process keeps
	copyTimeout = 2 * time.Second
	copyPause   = 10 * time.Second // after a copy could not be stored
	copiesBatch = 100              // copies that deleteCopies looks at in a transaction
)

// fullTask is the definition that a run keeps. The first condition is false for all
// definitions: they have the names of their fields.
const fullTask = `CASE WHEN octet_length(r.task) < ` + maxReference + `
	THEN coalesce((SELECT c.task FROM {task_copies} c WHERE c.hash = ` + referred + `), r.task) ELSE r.task END`

const (
	maxReference = `100`
	referred     = `substr(r.task, length(r.task) - 63)`
	unreferred   = `NOT EXISTS (SELECT 1 FROM {runs} r WHERE octet_length(r.task) < ` + maxReference + ` AND ` + referred + ` = c.hash)`
)

// copies are the hashes that are in task_copies, or that a process does not try to store at
// the moment.
type copies struct {
	mu    sync.Mutex
	known map[string]time.Time // zero: stored; else when to try again
}

// look reports whether a copy is stored, or else whether the caller is to store it.
func (c *copies) look(hash string) (stored, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	again, known := c.known[hash]
	if known && (again.IsZero() || time.Now().Before(again)) {
		return again.IsZero(), false
	}
	if c.known == nil || len(c.known) >= manyCopies {
		c.known = make(map[string]time.Time)
	}
	c.known[hash] = time.Now().Add(copyPause)
	return false, true
}

func (c *copies) stored(hash string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[hash] = time.Time{}
}

func (c *copies) forget(hash string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, hash)
}

// taskOf is what a new run keeps of a definition: a reference if the copy is large and
// stored, or else the copy. A caller does not wait for another one that stores the copy.
func (s *Store) taskOf(ctx context.Context, task *webtrigger.TaskDefinition) (*string, error) {
	encoded, err := encodeTask(task)
	if err != nil || encoded == nil || len(*encoded) < minCopied {
		return encoded, err
	}
	hash := hashOf(*encoded)
	if s.postgres {
		stored, mine := s.copies.look(hash)
		if mine {
			stored = s.storeCopy(ctx, hash, *encoded)
		}
		if !stored {
			return encoded, nil
		}
	}
	reference := fmt.Sprintf(`{"ID":%d,#%s`, task.ID, hash)
	return &reference, nil
}

func hashOf(encoded string) string {
	sum := sha256.Sum256([]byte(encoded))
	return hex.EncodeToString(sum[:])
}

// referredHash is the hash in a reference, or "".
func referredHash(task *string) string {
	if task == nil || len(*task) >= 100 {
		return ""
	}
	_, hash, _ := strings.Cut(*task, "#")
	return hash
}

const storeCopyText = `INSERT INTO {task_copies} (hash, task, created_at) VALUES ($1, $2, $3) ON CONFLICT (hash) DO NOTHING`

// storeCopy stores a copy, and reports whether it is stored.
func (s *Store) storeCopy(ctx context.Context, hash, encoded string) bool {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	err := s.write(ctx, "store task copy", func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		_, err = t.exec(t.ctx, storeCopyText, hash, encoded, t.at(now))
		return err
	})
	if err != nil {
		s.log.WarnContext(ctx, "task copy not stored", "error", err)
		return false
	}
	s.copies.stored(hash)
	return true
}

// keep makes sure, in a transaction, that the copy that a new run refers to stays. It
// returns the definition itself if there is no copy, or deleteCopies is deleting it.
func (t *tx) keep(trigger *newTrigger, now time.Time) (*string, error) {
	hash := referredHash(trigger.task)
	if hash == "" {
		return trigger.task, nil
	}
	if !t.store.postgres {
		encoded, err := encodeTask(trigger.TaskDefinition)
		if err == nil {
			_, err = t.exec(t.ctx, storeCopyText, hash, *encoded, t.at(now))
		}
		return trigger.task, err
	}
	var found int
	err := t.row(t.ctx, `SELECT 1 FROM {task_copies} WHERE hash = $1 FOR KEY SHARE SKIP LOCKED`, hash).Scan(&found)
	if err == sql.ErrNoRows {
		t.store.copies.forget(hash)
		return encodeTask(trigger.TaskDefinition)
	}
	return trigger.task, err
}

// deleteCopies deletes copies that no run refers to, if they are a day old, in batches.
// It locks what it finds and then looks once more: no run that refers to a locked copy can
// be created in between.
func (s *Store) deleteCopies(ctx context.Context) error {
	for after := ""; ; {
		deleted, last, err := s.deleteCopiesAfter(ctx, after)
		if err != nil || last == "" {
			return err
		}
		if after = last; deleted > 0 {
			s.log.InfoContext(ctx, "unused task copies deleted", "copies", deleted)
		}
	}
}

func (s *Store) deleteCopiesAfter(ctx context.Context, after string) (deleted int64, last string, _ error) {
	err := s.write(ctx, "delete task copies", func(t *tx) error {
		deleted, last = 0, ""
		now, err := t.now()
		if err != nil {
			return err
		}
		rows, err := t.rows(t.ctx, `SELECT hash FROM {task_copies} c WHERE hash > $1 AND created_at < $2 AND `+unreferred+`
			ORDER BY hash LIMIT $3 {skip locked}`, after, t.at(now.Add(-24*time.Hour)), copiesBatch)
		hashes, err := collect(rows, err, func(row scanner) (hash string, _ error) { return hash, row.Scan(&hash) })
		if err != nil {
			return err
		}
		for _, hash := range hashes {
			n, err := t.exec(t.ctx, `DELETE FROM {task_copies} AS c WHERE hash = $1 AND `+unreferred, hash)
			if err != nil {
				return err
			}
			deleted, last = deleted+n, hash
		}
		return nil
	})
	return deleted, last, err
}
