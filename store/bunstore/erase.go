package bunstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/webtrigger-go/webtrigger"
)

// EraseTrigger implements [webtrigger.RetentionStore].
func (s *Store) EraseTrigger(ctx context.Context, conversationID int64) error {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	erased, err := s.erase(ctx, conversationID, nil, forUpdate)
	if err == nil && !erased {
		err = webtrigger.ErrConflict
	}
	return err
}

// erase deletes a trigger whole, unless one of its runs has not ended. With
// outlived it does so only when each of its runs has been and no delivery is open.
// Events go first, in chunks. how is the lock of the conversation.
func (s *Store) erase(ctx context.Context, conversationID int64, outlived func(r endedRun) bool, how string) (erased bool, _ error) {
	on := &tx{session: s.pool(), ctx: ctx}
	runs, err := on.erasable(conversationID, outlived, "")
	if err != nil || runs == nil {
		return false, s.absent(outlived, err)
	}
	for _, r := range runs {
		if _, err := s.purgeEvents(ctx, r, how); err != nil {
			return false, err
		}
	}
	err = s.write(ctx, "erase trigger", func(t *tx) error {
		runs, err := t.erasable(conversationID, outlived, how)
		erased = runs != nil
		if err != nil || !erased {
			return s.absent(outlived, err)
		}
		if err := t.erase(conversationID, runs); err != nil {
			return err
		}
		return t.audit(0)
	})
	return erased, err
}

// absent is the error of an erasure. For retention, a trigger that another call has
// erased is not an error.
func (s *Store) absent(outlived func(r endedRun) bool, err error) error {
	if err == sql.ErrNoRows && outlived != nil {
		return nil
	}
	return s.wrap("erase trigger", err)
}

// erasable are the runs of a conversation if it may be erased, else none. how locks
// the conversation, so that no run joins it, and the deliveries, so that none is added; ""
// does not.
func (t *tx) erasable(conversationID int64, outlived func(r endedRun) bool, how string) ([]endedRun, error) {
	if _, _, err := t.lockConversation(conversationID, how); err != nil {
		return nil, err
	}
	var open bool
	err := t.row(t.ctx, `SELECT EXISTS (SELECT 1 FROM `+ofConversation+` r WHERE NOT EXISTS (SELECT 1 FROM {ends} WHERE run_id = r.id))`,
		conversationID).Scan(&open)
	if err != nil || open {
		return nil, err
	}
	rows, err := t.rows(t.ctx, `SELECT `+endedRunColumns+` FROM `+ofConversation+` r JOIN {ends} e ON e.run_id = r.id
		LEFT JOIN {purge_marks} m ON m.run_id = r.id ORDER BY r.id`, conversationID)
	runs, err := collect(rows, err, scanEndedRun)
	if err != nil {
		return nil, err
	}
	if outlived != nil {
		for _, r := range runs {
			if !outlived(r) {
				return nil, nil
			}
		}
	}
	if how != "" {
		if all, err := t.lockDeliveries(runs, how); err != nil || !all {
			return nil, err
		}
	}
	if outlived == nil {
		return runs, nil
	}
	rows, err = t.rows(t.ctx, `SELECT id FROM {deliveries} WHERE run_id {in ids} AND state IN ('pending', 'sending') LIMIT 1`,
		t.store.idList(runIDs(runs)))
	if open, err := collect(rows, err, scanID); err != nil || len(open) > 0 {
		return nil, err
	}
	return runs, nil
}

// lockDeliveries locks all deliveries of runs. A retry and a redelivery lock an earlier
// delivery of their run, so none is added then. It reports whether it has all: how may
// skip those that another transaction has locked.
func (t *tx) lockDeliveries(runs []endedRun, how string) (all bool, _ error) {
	list := t.store.idList(runIDs(runs))
	for {
		rows, err := t.rows(t.ctx, `SELECT id FROM {deliveries} WHERE run_id {in ids} ORDER BY id`+how, list)
		locked, err := collect(rows, err, scanID)
		if err != nil {
			return false, err
		}
		var n int
		err = t.row(t.ctx, `SELECT count(*) FROM {deliveries} WHERE run_id {in ids}`, list).Scan(&n)
		if err != nil || n == len(locked) || how == skipLocked {
			return n == len(locked), err
		}
	}
}

// eraseRun deletes an ended run of a conversation with a key, unless a delivery of it is
// open. With the last run, the conversation goes too.
func (s *Store) eraseRun(ctx context.Context, r endedRun) (erased bool, _ error) {
	on := &tx{session: s.pool(), ctx: ctx}
	if open, err := on.openDelivery(r.id); err != nil || open {
		return false, s.wrap("purge run", err)
	}
	if _, err := s.purgeEvents(ctx, r, skipLocked); err != nil {
		return false, err
	}
	err := s.write(ctx, "purge run", func(t *tx) error {
		erased = false
		if _, _, err := t.lockConversation(r.conversationID, skipLocked); err != nil {
			return err
		}
		if all, err := t.lockDeliveries([]endedRun{r}, skipLocked); err != nil || !all {
			return err
		}
		if open, err := t.openDelivery(r.id); err != nil || open {
			return err
		}
		erased = true
		var others bool
		err := t.row(t.ctx, `SELECT EXISTS (SELECT 1 FROM `+ofConversation+` r WHERE r.id <> $2)`, r.conversationID, r.id).Scan(&others)
		if err != nil {
			return err
		}
		if !others {
			return t.erase(r.conversationID, []endedRun{r})
		}
		return t.eraseRuns([]endedRun{r}, r.conversationID)
	})
	if errors.Is(err, webtrigger.ErrNotFound) { // locked, or erased meanwhile
		return false, nil
	}
	return erased, err
}

// openDelivery reports whether a run has a delivery that is pending or sending.
func (t *tx) openDelivery(runID int64) (open bool, _ error) {
	err := t.row(t.ctx, `SELECT EXISTS (SELECT 1 FROM {deliveries} WHERE run_id = $1 AND state IN ('pending', 'sending'))`, runID).Scan(&open)
	return open, err
}

// eraseRuns deletes runs with all that belongs to them.
func (t *tx) eraseRuns(runs []endedRun, conversationID int64) error {
	list := t.store.idList(runIDs(runs))
	for _, text := range []string{
		`DELETE FROM {steps} WHERE run_id {in ids}`,
		`DELETE FROM {deliveries} WHERE run_id {in ids}`,
		`DELETE FROM {idempotency_keys} WHERE run_id {in ids}`,
		`DELETE FROM {purge_marks} WHERE run_id {in ids}`,
		`DELETE FROM {inputs} WHERE run_id {in ids}`,
		`DELETE FROM {ends} WHERE run_id {in ids}`,
		`DELETE FROM {runs} WHERE id {in ids}`,
	} {
		if _, err := t.exec(t.ctx, text, list); err != nil {
			return err
		}
	}
	for _, text := range []string{
		`DELETE FROM {events} WHERE run_id {in ids} AND conversation_id = $2`,
		`DELETE FROM {messages} WHERE run_id {in ids} AND conversation_id = $2`,
	} {
		if _, err := t.exec(t.ctx, text, list, conversationID); err != nil {
			return err
		}
	}
	return nil
}

// ofConversation are the runs of the conversation $1.
const ofConversation = `(SELECT id, conversation_id, conversation_key FROM {runs} WHERE id = $1 AND conversation_id = $1
	UNION ALL SELECT id, conversation_id, conversation_key FROM {runs} WHERE conversation_id = $1 AND conversation_id <> id)`

func runIDs(runs []endedRun) []int64 {
	ids := make([]int64, len(runs))
	for i, r := range runs {
		ids[i] = r.id
	}
	return ids
}

// erase deletes a locked conversation whose runs have ended, with all that
// belongs to it.
func (t *tx) erase(conversationID int64, runs []endedRun) error {
	if err := t.eraseRuns(runs, conversationID); err != nil {
		return err
	}
	for _, text := range []string{
		`DELETE FROM {events} WHERE conversation_id = $1`,
		`DELETE FROM {messages} WHERE conversation_id = $1`,
		`DELETE FROM {conversations} WHERE id = $1`,
	} {
		if _, err := t.exec(t.ctx, text, conversationID); err != nil {
			return err
		}
	}
	return nil
}
