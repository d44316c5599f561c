package bunstore_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// previousRows is what a store of the version before the migration "core" had in
// its tables, on SQLite, and what all reads returned.
type previousRows struct {
	Tables map[string][]map[string]any
	Reads  json.RawMessage
	Hash   webtrigger.KeyHash // of an API key
	Key    string             // an idempotency key
	Body   [32]byte
}

// readAll returns the answers of all reads for the runs of a store.
func readAll(t *testing.T, s webtrigger.Store, p *previousRows) json.RawMessage {
	t.Helper()
	ctx := t.Context()
	said := make(map[string]any)
	say := func(what string, v any, err error) {
		if err != nil {
			v = err.Error()
		}
		said[what] = v
	}
	runs, err := s.Runs(ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 100}})
	say("runs", runs, err)
	for _, status := range []webtrigger.RunStatus{webtrigger.RunQueued, webtrigger.RunRunning, webtrigger.RunCompleted,
		webtrigger.RunFailed, webtrigger.RunCancelled, webtrigger.RunTimedOut} {
		found, err := s.Runs(ctx, webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{status}, Page: webtrigger.Page{Limit: 100}})
		say("runs "+string(status), found, err)
	}
	for _, r := range runs {
		of := func(what string) string { return fmt.Sprintf("%s of run %d", what, r.ID) }
		run, err := s.RunByID(ctx, r.ID)
		say(of("run"), run, err)
		run, err = s.RunByKey(ctx, r.Key)
		say(of("key"), run, err)
		input, err := s.RunInput(ctx, r.ID)
		say(of("input"), input, err)
		conversation, err := s.Conversation(ctx, r.ConversationID)
		say(of("conversation"), conversation, err)
		messages, err := s.Messages(ctx, webtrigger.MessageQuery{ConversationID: r.ConversationID, Limit: 100})
		say(of("messages"), messages, err)
		deliveries, err := s.Deliveries(ctx, r.ID)
		say(of("deliveries"), deliveries, err)
		last, err := s.LastEventIDs(ctx, []int64{r.ConversationID})
		say(of("last event"), last, err)
		grant, err := s.Authenticate(ctx, p.Hash, r.ConversationID, 0)
		say(of("grant"), grant, err)
		for after := range int64(4) {
			for _, query := range []webtrigger.EventQuery{{AfterID: after}, {RunID: r.ID, AfterSequence: after}} {
				query.ConversationID, query.Limit = r.ConversationID, 100
				page, err := s.Events(ctx, query)
				say(of(fmt.Sprintf("events %t after %d", query.RunID == 0, after)), page, err)
			}
		}
	}
	run, err := s.Replay(ctx, "1", webtrigger.Idempotency{Key: p.Key, BodyHash: p.Body})
	say("replay", run, err)
	state, err := s.QueueState(ctx)
	state.OldestAge = 0
	say("queue", state, err)
	text, err := json.Marshal(said)
	require.NoError(t, err)
	return text
}

// summarized is Reads, where this version reads the summaries of runs.
func (p *previousRows) summarized(t *testing.T) string {
	t.Helper()
	var said map[string]any
	require.NoError(t, json.Unmarshal(p.Reads, &said))
	first := make(map[any]float64)           // of conversations
	for _, v := range said["runs"].([]any) { // newest first
		run := v.(map[string]any)
		first[run["ConversationID"]] = run["ID"].(float64)
	}
	for what, v := range said {
		kind, _, _ := strings.Cut(what, " ")
		summarize := func(v any) {
			run, ok := v.(map[string]any)
			if !ok {
				return
			}
			run["Continues"], run["Behind"], run["ConversationKey"] = run["ID"] != first[run["ConversationID"]], false, ""
			run["TaskDefinitionID"] = 0
			if task, ok := run["TaskDefinition"].(map[string]any); ok {
				run["TaskDefinitionID"], task["ApproveTools"] = task["ID"], nil
			}
			if kind != "run" {
				run["TaskDefinition"] = nil
			}
			if kind != "run" && kind != "grant" {
				run["Result"] = ""
			}
		}
		switch kind {
		case "runs":
			runs, _ := v.([]any)
			for _, run := range runs {
				summarize(run)
			}
		case "messages":
			messages, _ := v.([]any)
			for _, m := range messages {
				message := m.(map[string]any)
				message["ToolCalls"], message["ToolCallID"] = nil, ""
			}
		case "conversation":
			v.(map[string]any)["Key"] = ""
		case "queue":
			v.(map[string]any)["Waiting"] = 0
		case "run", "key", "replay":
			summarize(v)
		case "grant":
			if grant, ok := v.(map[string]any); ok {
				grant["ResultOmitted"] = false
				grant["Key"].(map[string]any)["Scopes"] = webtrigger.DefaultScopes()
				summarize(grant["Run"])
			}
		}
	}
	text, err := json.Marshal(said)
	require.NoError(t, err)
	return string(text)
}

// fill stores rows of the previous version.
func (p *previousRows) fill(t *testing.T, db *bun.DB) {
	t.Helper()
	pg := db.Dialect().Name().String() == "pg"
	for table, rows := range p.Tables {
		for _, row := range rows {
			var names, marks []string
			var values []any
			for name, value := range row {
				number, isNumber := value.(float64)
				switch {
				case value == nil:
					continue
				case strings.HasSuffix(name, "hash"):
					value = []byte(value.(string))
				case isNumber && pg && (strings.HasSuffix(name, "_at") || strings.HasSuffix(name, "_until") || name == "waits_since"):
					value = time.UnixMicro(int64(number)).UTC()
				case isNumber && (name == "leased" || name == "native" || name == "events_purged" || name == "active" || name == "enabled" || name == "allow_callback_urls"):
					value = number != 0
				case isNumber:
					value = int64(number)
				}
				names, marks, values = append(names, name), append(marks, "?"), append(values, value)
			}
			_, err := db.NewRaw(fmt.Sprintf("INSERT INTO webtrigger_%s (%s) VALUES (%s)", table, strings.Join(names, ", "), strings.Join(marks, ", ")), values...).
				Exec(t.Context())
			require.NoError(t, err, "%s %v", table, row)
		}
		if pg && len(rows) > 0 && rows[0]["id"] != nil && table != "messages" && table != "events" {
			_, err := db.ExecContext(t.Context(), fmt.Sprintf("SELECT setval('webtrigger_%[1]s_id_seq', (SELECT max(id) FROM webtrigger_%[1]s))", table))
			require.NoError(t, err)
		}
	}
}

// onPrevious runs a test on both databases with the tables and rows of the version
// before the first migration of 2026-11-29.
func onPrevious(t *testing.T, test func(t *testing.T, db *bun.DB, s *bunstore.Store, p *previousRows)) {
	t.Helper()
	text, err := os.ReadFile("testdata/previous.json")
	require.NoError(t, err)
	p := new(previousRows)
	require.NoError(t, json.Unmarshal(text, p))
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		s := opened(t, db, nil)
		require.NoError(t, s.MigrateBefore(t.Context(), "20261129000001"))
		p.fill(t, db)
		test(t, db, s, p)
	})
}

// Stored runs of the previous version read the same after the migration, and continue
// as before.
func TestMigrateCore_storedRuns_readAndContinue(t *testing.T) {
	t.Parallel()
	onPrevious(t, func(t *testing.T, db *bun.DB, s *bunstore.Store, p *previousRows) {
		require.NoError(t, s.Migrate(t.Context()))
		require.JSONEq(t, p.summarized(t), string(readAll(t, s, p)))
		continues(t, s)
	})
}

// continues executes the stored runs after the migration.
func continues(t *testing.T, s webtrigger.Store) {
	t.Helper()
	ctx := t.Context()
	runs, err := s.Runs(ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 100}})
	require.NoError(t, err)
	highest := int64(0)
	for _, r := range runs {
		highest = max(highest, r.ID, r.ConversationID)
	}
	joining := newTrigger()
	joining.ConversationID = runs[len(runs)-1].ConversationID
	accepted, err := s.CreateTrigger(ctx, joining)
	require.NoError(t, err)
	require.Greater(t, accepted.Run.ID, highest, "the id may become that of a conversation")
	fresh, err := s.CreateTrigger(ctx, newTrigger())
	require.NoError(t, err)
	require.Equal(t, fresh.Run.ID, fresh.Run.ConversationID)
	state, err := s.QueueState(ctx)
	require.NoError(t, err)
	claimed := claimedBy(t, s, registered(t, s, time.Hour), 100, 0)
	require.Len(t, claimed, state.Queued)
	for _, c := range claimed {
		require.NoError(t, s.AppendEvents(ctx, c.Lease, webtrigger.EventBatch{Number: 1,
			Events: []webtrigger.NewEvent{{Type: "x_step", Payload: []byte(`{}`)}}}))
		ended, err := s.FinishRun(ctx, c.Lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "Result"}})
		require.NoError(t, err)
		page, err := s.Events(ctx, webtrigger.EventQuery{ConversationID: ended.ConversationID, RunID: ended.ID, Limit: 100})
		require.NoError(t, err)
		for i, e := range page.Events {
			require.EqualValues(t, i+1, e.Sequence)
		}
		require.Equal(t, webtrigger.EventType("run_completed"), page.Events[len(page.Events)-1].Type)
	}
}
