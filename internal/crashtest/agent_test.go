//go:build unix

package crashtest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/internal/servertest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// agentRun is one run of an agent whose processes are killed.
type agentRun struct {
	*require.Assertions
	t        *testing.T
	database string
	ledger   string
	id       int64
	unknown  []string // calls whose outcome is unknown
}

func newAgentRun(t *testing.T, database string) *agentRun {
	t.Helper()
	a := &agentRun{Assertions: require.New(t), t: t, database: database, ledger: filepath.Join(t.TempDir(), "ledger")}
	a.open(func(store *bunstore.Store) {
		a.NoError(store.Migrate(t.Context()))
		svc, err := webtrigger.New(store, nil, &webtrigger.Options{NoWorkers: true, BaseURL: "https://app.example.com"})
		a.NoError(err)
		a.NoError(svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
		run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "go"})
		a.NoError(err)
		a.id = run.ID
	})
	return a
}

// open uses the store while no process has it.
func (a *agentRun) open(use func(store *bunstore.Store)) {
	a.t.Helper()
	db, err := openDatabase(a.database)
	a.NoError(err)
	defer db.Close()
	store, err := bunstore.New(db, nil)
	a.NoError(err)
	defer store.Close()
	use(store)
}

// process executes the run in a process that is killed at a point, or until it has ended.
// It reports whether the process was killed.
func (a *agentRun) process(point string) (killed bool) {
	a.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envDatabase+"="+a.database, envPoint+"="+point, envLedger+"="+a.ledger, envRun+"="+strconv.FormatInt(a.id, 10))
	p := servertest.Start(a.t, cmd)
	select {
	case <-p.Exited:
	case <-time.After(patience):
		a.FailNow("the process has not ended")
	}
	return !p.Cmd.ProcessState.Success()
}

// killed checks nothing yet: it returns a function for the end of the run, which requires
// that no step that is recorded now was executed again.
func (a *agentRun) killed() (check func()) {
	a.t.Helper()
	before := done(a.ledger)
	var recorded []string // lines of the ledger
	a.open(func(store *bunstore.Store) {
		steps, err := store.Steps(a.t.Context(), a.id)
		a.NoError(err)
		for _, s := range steps {
			kind, id, _ := strings.Cut(s.Name, " ")
			switch {
			case kind == "model":
				recorded = append(recorded, fmt.Sprintf("model %d", s.Nth))
			case kind == "tool" && s.Record != nil:
				recorded = append(recorded, "begin "+id)
			case kind == "tool" && !repeatable(id) && !slices.Contains(a.unknown, id):
				a.unknown = append(a.unknown, id)
			}
		}
	})
	return func() {
		after := done(a.ledger)
		for _, line := range recorded {
			a.Equal(count(before, line), count(after, line), "%q is recorded and was executed again", line)
		}
	}
}

func repeatable(id string) bool {
	for _, calls := range script {
		if slices.Contains(calls, id+" look") {
			return true
		}
	}
	return false
}

// optional reports whether a process can miss a point: the start mark of a call that is
// repeatable does not delay it, and can be stored together with the record.
func optional(point string) bool {
	_, call, isMark := strings.Cut(point, " mark of tool ")
	return isMark && repeatable(strings.TrimSuffix(call, " 1"))
}

func count(lines []string, line string) (n int) {
	for _, l := range lines {
		if l == line {
			n++
		}
	}
	return n
}

// story is what readers and the model have of a run.
type story struct {
	Result   string
	Usage    webtrigger.Usage
	Events   []string // see shown
	Messages []string
}

func (a *agentRun) story() (s story) {
	a.t.Helper()
	a.open(func(store *bunstore.Store) {
		run, err := store.RunByID(a.t.Context(), a.id)
		a.NoError(err)
		a.Equal(webtrigger.RunCompleted, run.Status, "%s %s", run.StatusDetail, run.ErrorMessage)
		s.Result, s.Usage = run.Result, *run.Usage
		page, err := store.Events(a.t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, Limit: 10_000})
		a.NoError(err)
		s.Events = a.shown(page.Events)
		messages, err := store.Messages(a.t.Context(), webtrigger.MessageQuery{ConversationID: run.ConversationID, Limit: 1000})
		a.NoError(err)
		for _, m := range messages {
			s.Messages = append(s.Messages, fmt.Sprint(m.Role, m.Content, m.ToolCallID, " ", len(m.ToolCalls), " ", m.ToolCalls))
		}
	})
	return s
}

// shown returns the events of the Runner, as a reader of the stream gets them: the pieces of
// a message that an attempt did not complete are dropped. The events of calls that run
// at the same time are sorted.
func (a *agentRun) shown(events []webtrigger.Event) (shown []string) {
	a.t.Helper()
	pieces, calls := "", []string{}
	for i, e := range events {
		a.EqualValues(i+1, e.Sequence)
		var p map[string]any
		a.NoError(json.Unmarshal(e.Payload, &p))
		text, _ := p["text"].(string)
		switch {
		case e.Type == webtrigger.EventMessageDelta:
			pieces += text
			continue
		case e.Type == webtrigger.EventMessageCompleted:
			a.Equal(text, pieces, "the pieces are the message")
			pieces = ""
		case e.Type == webtrigger.EventRunStarted:
			pieces = ""
			continue
		case e.Type == webtrigger.EventRunRequeued:
			continue
		}
		delete(p, "duration_ms")
		line, err := json.Marshal(p)
		a.NoError(err)
		if strings.HasPrefix(string(e.Type), "tool_") {
			calls = append(calls, fmt.Sprint(p["call_id"], " ", e.Type, " ", string(line)))
			continue
		}
		slices.SortFunc(calls, func(a, b string) int { // tool_started comes first
			return strings.Compare(strings.Replace(a, "tool_started", "a", 1), strings.Replace(b, "tool_started", "a", 1))
		})
		shown, calls = append(append(shown, calls...), string(e.Type)+" "+string(line)), nil
	}
	return shown
}

// without masks the outcomes of calls whose outcome is unknown.
func (s story) without(unknown []string) story {
	for _, id := range unknown {
		s.Events = slices.DeleteFunc(slices.Clone(s.Events), func(e string) bool {
			return strings.HasPrefix(e, id+" tool_completed") || strings.HasPrefix(e, id+" tool_failed") && strings.Contains(e, "outcome of the call is unknown")
		})
		s.Messages = slices.DeleteFunc(slices.Clone(s.Messages), func(m string) bool {
			return strings.HasPrefix(m, "tool") && strings.HasSuffix(m, id+" 0 []") && strings.Contains(m, "result of "+id) == !strings.Contains(m, "outcome of the call is unknown")
		})
	}
	return s
}

// check holds the run, which has ended, to the guarantees.
func (a *agentRun) check(undisturbed story) {
	a.t.Helper()
	got := a.story()
	a.Len(got.Events, len(undisturbed.Events))
	a.Len(got.Messages, len(undisturbed.Messages))
	a.Equal(undisturbed.without(a.unknown), got.without(a.unknown))
	lines := done(a.ledger)
	for _, calls := range script {
		for _, call := range calls {
			id, _, _ := strings.Cut(call, " ")
			begun, ended := count(lines, "begin "+id), count(lines, "end "+id)
			switch {
			case repeatable(id):
				a.GreaterOrEqual(ended, 1, id)
			case slices.Contains(a.unknown, id):
				a.LessOrEqual(begun, 1, "%s has happened twice", id)
			default:
				a.Equal([]int{1, 1}, []int{begun, ended}, "%s", id)
			}
		}
	}
}

// A process of an agent is killed at a boundary of its steps, and the next one at
// another boundary. The third one ends the run. WEBTRIGGER_STEPS=all has all boundaries, on
// both databases.
func TestAgent_killedAtStepBoundaries_repeatsNoRecordedStepAndNoEffect(t *testing.T) {
	t.Parallel()
	all := boundaries()
	points := []string{"during effect c1", "after record of tool c4 1", "during model 4"}
	databases := map[string]func(t *testing.T) string{
		"sqlite": func(t *testing.T) string { return filepath.Join(t.TempDir(), "agent.db") },
	}
	if os.Getenv("WEBTRIGGER_STEPS") == "all" {
		points, databases["postgres"] = all, func(t *testing.T) string { return schemas.Database(t) }
	}
	undisturbed := sync.OnceValue(func() story {
		a := newAgentRun(t, databases["sqlite"](t))
		a.False(a.process(""))
		return a.story()
	})()
	require.Len(t, undisturbed.Messages, 1+5+8)
	for name, database := range databases {
		for _, point := range points {
			second := all[(7*slices.Index(all, point)+40)%len(all)]
			t.Run(name+" "+point+", "+second, func(t *testing.T) {
				t.Parallel()
				a := newAgentRun(t, database(t))
				var checks []func()
				if !a.process(point) {
					a.True(optional(point), "the process must come to the point")
					a.check(undisturbed)
					return
				}
				checks = append(checks, a.killed())
				if a.process(second) { // it may be behind the agent already
					checks = append(checks, a.killed())
					a.False(a.process(""))
				}
				a.check(undisturbed)
				for _, check := range checks {
					check()
				}
			})
		}
	}
}
