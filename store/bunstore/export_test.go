package bunstore

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// KnownConnections is how many connections the store remembers.
func (s *Store) KnownConnections() int {
	s.lender.mu.Lock()
	defer s.lender.mu.Unlock()
	return len(s.lender.known)
}

// AcceptsWaiting is how many triggers wait for the next batch.
func (s *Store) AcceptsWaiting() int {
	s.accepts.mu.Lock()
	defer s.accepts.mu.Unlock()
	return s.accepts.waiting.count
}

// LanesPaused is how many triggers pause because another transaction has their
// conversation.
func (s *Store) LanesPaused() int {
	s.lanes.mu.Lock()
	defer s.lanes.mu.Unlock()
	return s.lanes.paused.count
}

// AcceptsUnderWay is how many batches of triggers are under way, once none waits.
func (s *Store) AcceptsUnderWay() int {
	s.accepts.mu.Lock()
	defer s.accepts.mu.Unlock()
	if s.accepts.waiting.count > 0 {
		return 0
	}
	return s.accepts.busy
}

// SetTimeout shortens what a call without a deadline gets. No call may be in
// progress. It waits for notifications to be sent.
func (s *Store) SetTimeout(d time.Duration) {
	for {
		s.notifier.mu.Lock()
		if !s.notifier.sending {
			s.timeout = d
			s.notifier.mu.Unlock()
			return
		}
		s.notifier.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// SQL is a text of this package as the database gets it.
func (s *Store) SQL(text string) string { return s.statement(text).text }

// The frequent statements on Postgres, each with arguments.
var HotStatements = map[string]string{
	"accept":                  pgAcceptText + `;` + hotAccept,
	"accept with a key":       pgAcceptKeyedText + `;` + hotAccept,
	"accept in bounds":        pgAcceptBoundedText + `;` + hotAccept,
	"claim of few runs":       pgClaimFewText + `;16;1000000;'10'`,
	"claim of many runs":      pgClaimManyText + `;16;1000000;'10'`,
	"claim the oldest":        pgClaimOldestText + hotClaim,
	"claim of shares":         pgClaimSharesText + hotClaim + `;'[{"assistant_id":"7","key_id":0,"running":1,"runs":20}]';100`,
	"claim of shares of keys": pgClaimKeySharesText + hotClaim + `;'[{"assistant_id":"7","key_id":1,"running":1,"runs":20}]';100`,
	"head":                    pgShortHeadText,
	"long head":               pgLongHeadText,
	"walk":                    pgWalkText + `;'7';'';100`,
	"keys":                    pgKeysText + `;'[{"assistant_id":"7"}]';10`,
	"claim one run":           pgClaimOneText + `;100001;1000000;'10'`,
	"append":                  pgAppendText + `;'[{"ord":0,"run_id":1,"token":1,"batch":1,"events":1}]';'[{"o":0,"k":1,"t":"x_step","p":"{}"}]'`,
	"append to a lane":        pgAppendSharedText + `;'[{"ord":0,"run_id":1,"token":1,"batch":1,"events":1}]';'[{"o":0,"k":1,"t":"x_step","p":"{}"}]'`,
	"append steps":            pgAppendStepsText + hotSteps,
	"append steps to a lane":  pgAppendSharedStepsText + hotSteps,
	"finish known":            pgFinishKnownText + `;'[{"ord":0,"run_id":1,"token":1,"batch":1,"events":1}]';'[{"o":0,"k":1,"t":"x_step","p":"{}"}]';'[]'`,
	"keys of requests":        pgKeyGrantsText + `;'[{"ord":0,"hash":"00"}]'`,
	"finish":                  pgFinishText + `;'[{"ord":0,"run_id":1,"token":1,"batch":1,"events":1}]';'[{"o":0,"k":1,"t":"x_step","p":"{}"}]';'[]'`,
	"renew":                   pgRenewText + `;'10';1000000;1;NULL`,
	"status":                  pgGrantsText + `;'[{"ord":0,"hash":"00","id":5}]'`,
	"run":                     `SELECT ` + runColumns + ` FROM ` + fromRuns + ` WHERE r.id = $1;5`,
	"tail":                    conversationEvents + `;5;0;100;1000000`,
	"tail of a run":           runEvents + `;5;0;100;1000000;5;0`,
	"replay":                  replayText + `;'1';'k';'2026-01-01'`,
	"begin":                   pgBeginText + `;'[{"ord":0,"id":1,"token":1}]'`,
	"outcome":                 pgFinishDeliveryText + `;'[{"ord":0,"id":1,"token":1,"state":"delivered"}]'`,
	"due":                     pgFewDueText,
	"due, many":               pgManyDueText,
	"due of some":             pgWalkFewText + `;16;12;'[]'`,
	"due of some, many":       pgWalkManyText + `;100;12;'[]'`,
	"lease":                   pgLeaseText + `;'{1,2}';1000000;1`,
	"last events":             lastEventsText + `;'{1,2,3}'`,
	"messages":                messagesText + `;5;0;100;0`,
	"messages of a run":       messagesText + `;5;0;100;5`,
	"summary":                 summaryText + `;5`,
	"owner of a run":          ownerTexts[webtrigger.ResourceRun] + `;5`,
	"owner of a conversation": ownerTexts[webtrigger.ResourceConversation] + `;5`,
	"owner of a delivery":     ownerTexts[webtrigger.ResourceDelivery] + `;5`,
	"list of an assistant":    `SELECT ` + summaryColumns + ` FROM ` + fromRuns + ` WHERE r.assistant_id = $1 ORDER BY r.id DESC LIMIT $2;'1';50`,
}

// Explain returns the plan of a page of runs. explain is EXPLAIN in the dialect.
func (s *Store) Explain(ctx context.Context, explain string, query webtrigger.RunQuery) (plan string, _ error) {
	text, args := s.list(query)
	return s.explain(ctx, explain, text, args)
}

// ExplainCount is the plan of a count of runs.
func (s *Store) ExplainCount(ctx context.Context, explain string, query webtrigger.RunQuery) (plan string, _ error) {
	text, args := s.count(query, 1000)
	return s.explain(ctx, explain, text, args)
}

// ExplainDeliveries is the plan of a page of deliveries.
func (s *Store) ExplainDeliveries(ctx context.Context, explain string, query webtrigger.DeliveryFilter) (plan string, _ error) {
	text, args := s.deliveryList(query)
	return s.explain(ctx, explain, text, args)
}

// ExplainDeliveryCount is the plan of a count of deliveries.
func (s *Store) ExplainDeliveryCount(ctx context.Context, explain string, query webtrigger.DeliveryFilter) (plan string, _ error) {
	text, args := s.deliveryCount(query, webtrigger.MaxCount)
	return s.explain(ctx, explain, text, args)
}

// ExplainConversations is the plan of a page of conversations.
func (s *Store) ExplainConversations(ctx context.Context, explain string, query webtrigger.ConversationQuery) (plan string, _ error) {
	text, args := conversationList(query)
	return s.explain(ctx, explain, text, args)
}

func (s *Store) explain(ctx context.Context, explain, text string, args []any) (plan string, _ error) {
	lines, err := listed(ctx, s, explain+" "+text, args, func(row scanner) (line string, _ error) {
		if s.postgres {
			return line, row.Scan(&line)
		}
		var id, parent, unused int
		return line, row.Scan(&id, &parent, &unused, &line)
	})
	return strings.Join(lines, "\n"), err
}

const hotSteps = `;'[{"ord":0,"run_id":1,"token":1,"batch":1,"events":1}]';'[{"o":0,"k":1,"t":"x_step","p":"{}"}]';'[{"o":0,"k":1,"t":"a","p":"{}"}]'`

const hotClaim = `;16;1000000;'10';'run_started';'{';'}'`

const hotAccept = `'[{"ord":0,"run_key":"f7d2c1a8-5f0e-4d3b-9a61-0c8e7b2d4f19","assistant":"7","key_id":1,"checked":true,"request":"k","hash":"00","ttl":1,"bound":100,"wanted":true,"token":5}]';` +
	`true;'https://app.example.com';'10'`

// LockLimits takes the lock of claims with limits in a transaction.
func (s *Store) LockLimits(ctx context.Context, tx bun.Tx) error {
	return s.lockLimits(ctx, s.within(tx.Tx))
}

// LockStats takes the lock of those who count ends in a transaction.
func (s *Store) LockStats(ctx context.Context, bunTx bun.Tx) error {
	_, err := (&tx{session: s.within(bunTx.Tx), ctx: ctx}).lockStats(true)
	return err
}

// LockBounds takes the lock of the bound of a trigger's assistant in a transaction.
func (s *Store) LockBounds(ctx context.Context, tx bun.Tx, trigger *webtrigger.NewTrigger) error {
	return s.lockBounds(ctx, s.within(tx.Tx), trigger)
}

// AddMigrations adds migrations to those of this package.
func (s *Store) AddMigrations(files fs.FS) { s.moreMigrations = append(s.moreMigrations, files) }

// MigrateBefore applies the migrations before the one of this name.
func (s *Store) MigrateBefore(ctx context.Context, name string) error {
	return s.migrating(ctx, func(m *migrator) error {
		m.list = slices.DeleteFunc(m.list, func(step migration) bool { return step.name >= name })
		return m.up()
	})
}

// EndsPaused is how many ends of runs pause because another transaction has their run
// locked, and AppendsPaused is the same of batches of events.
func (s *Store) EndsPaused() int    { return pausedOf(s.ends.then) }
func (s *Store) AppendsPaused() int { return pausedOf(s.appends.then.then) }

func pausedOf[A, R any](b *batcher[A, R]) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.paused.count
}

// LanesUnderWay is how many triggers that name a conversation pause, wait or are in a batch.
func (s *Store) LanesUnderWay() int {
	s.lanes.mu.Lock()
	defer s.lanes.mu.Unlock()
	return s.lanes.paused.count + s.lanes.waiting.count + s.lanes.busy
}
