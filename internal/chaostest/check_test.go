//go:build unix

package chaostest_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/runcheck"
)

// violation is one guarantee that does not hold for a run.
type violation struct {
	kind string
	text string
}

// The guarantees. Each has a column in the report.
const (
	lost         = "lost"         // acknowledged, and not stored
	neverCalled  = "never called" // ended, and no Runner was called
	otherEnds    = "ends != 1"    // not one end, the last of its events, that the receiver was sent
	otherPosts   = "callbacks != 1"
	lateEffects  = "late effects"  // stored by a Runner whose run another claim had
	twice        = "created twice" // one idempotency key, two runs
	repeated     = "repeated"      // a run with one attempt was claimed again after its Runner was called
	notCompleted = "not completed" // not ended by its Runner
	wrongAnswers = "wrong answers" // to a caller: neither 202 nor 503
)

// checker compares the ledger with the store.
type checker struct {
	*rig
	forgiven bool // the asynchronous standby was promoted: what its commits lost is lost
	found    []violation
}

func (j *checker) find(kind, format string, args ...any) {
	j.found = append(j.found, violation{kind, fmt.Sprintf(format, args...)})
}

// check waits until the runs up to the last one acknowledged have ended and their
// callbacks are done. Then it compares the ledger's triggers from the nth on with the
// stored runs. It returns the violated guarantees.
func (r *rig) check(n int, forgiven bool) []violation {
	r.Helper()
	scope := r.load.since(n)
	acks := make(map[string]*sent, len(scope)) // by run key
	from := time.Now()
	for _, s := range scope {
		if s.began.Before(from) {
			from = s.began
		}
		if key, at := r.load.ack(s); !at.IsZero() {
			acks[key] = s
		}
	}
	upTo := r.load.lastRun()
	j := &checker{rig: r, forgiven: forgiven}
	j.settle(upTo)
	r.account.read(r.T, r.ledger)
	require.LessOrEqual(r, r.account.torn, len(r.kills), "lines of the ledger that are not whole")

	stored := j.stored(from.Add(-5*time.Second), upTo) // the clock of the store is that of this machine
	for key, s := range acks {
		if _, ok := stored[key]; !ok {
			j.find(lost, "trigger %s, run %s", s.name, key)
		}
	}
	for key, run := range stored {
		if _, ok := acks[key]; ok || run.CreatedAt.After(from) {
			j.run(run)
		}
	}
	j.duplicates(from)
	r.load.mu.Lock()
	for _, text := range r.load.wrong {
		j.find(wrongAnswers, "%s", text)
	}
	r.load.wrong = nil
	r.load.mu.Unlock()
	return j.found
}

// settle waits until nothing changes any more by itself.
func (j *checker) settle(upTo int64) {
	j.Helper()
	killed := j.lastKill()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		var waiting int
		err := j.db.NewRaw(`SELECT (SELECT count(*) FROM webtrigger_queue WHERE run_id <= ?0)
			+ (SELECT count(*) FROM webtrigger_deliveries WHERE run_id <= ?0 AND (state = 'pending' OR state = 'sending' AND attempted_at > ?1))`,
			upTo, killed).Scan(j.Context(), &waiting)
		if err == nil && waiting == 0 {
			return
		}
		require.True(j, time.Now().Before(deadline), "runs and callbacks do not end: %d, error %v\n%s", waiting, err, j.logs(""))
	}
}

func (r *rig) lastKill() (at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kills) > 0 {
		at = r.kills[len(r.kills)-1]
	}
	return at
}

// killedWithin reports whether a replica was killed in the 10 s that a callback takes.
func (r *rig) killedWithin(attempted time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.kills, func(at time.Time) bool {
		return !at.Before(attempted.Add(-time.Second)) && at.Sub(attempted) < 11*time.Second
	})
}

// stored are the runs of the store up to an id, by key, with their results, which a list
// does not have.
func (j *checker) stored(from time.Time, upTo int64) map[string]webtrigger.Run {
	j.Helper()
	all, results := make(map[string]webtrigger.Run), make(map[int64]string)
	var ends []struct {
		RunID  int64
		Result string
	}
	err := j.db.NewRaw(`SELECT run_id, coalesce(result, '') AS result FROM webtrigger_ends WHERE run_id <= ? AND completed_at >= ?`, upTo, from).
		Scan(j.Context(), &ends)
	require.NoError(j, err)
	for _, e := range ends {
		results[e.RunID] = e.Result
	}
	runs, err := runcheck.All(j.Context(), j.store, webtrigger.RunQuery{From: from, Page: webtrigger.Page{Before: upTo + 1}})
	require.NoError(j, err)
	for _, run := range runs {
		run.Result = results[run.ID]
		all[run.Key] = run
	}
	return all
}

// run checks one run that is stored.
func (j *checker) run(run webtrigger.Run) {
	j.Helper()
	j.events(run)
	calls := j.account.calls[run.Key]
	if len(calls) == 0 {
		j.find(neverCalled, "run %d: %s %s", run.ID, run.Status, run.StatusDetail)
	}
	if run.Status != webtrigger.RunCompleted {
		j.find(notCompleted, "run %d: %s %s %s", run.ID, run.Status, run.StatusDetail, run.ErrorMessage)
	} else if !slices.ContainsFunc(j.account.effects[run.Key], func(e entry) bool { return e.Call == run.Result }) {
		j.find(neverCalled, "run %d: its result is of call %q, which had no effect", run.ID, run.Result)
	}
	if j.forgiven {
		return
	}
	j.callbacks(run)
}

// callbacks checks that the receiver of a run was sent one callback, with the end that is stored.
func (j *checker) callbacks(run webtrigger.Run) {
	j.Helper()
	posts := j.account.callbacks[run.Key]
	want := 1
	if !j.receivers.reads(run.CallbackURL) {
		want = 0
	}
	if len(posts) != want {
		deliveries, err := j.store.Deliveries(j.Context(), run.ID)
		require.NoError(j, err)
		d := deliveries[0]
		if len(posts) > want || !j.killedWithin(d.AttemptedAt) {
			j.find(otherPosts, "run %d: %d, the delivery is %s %s %s", run.ID, len(posts), d.State, d.FailureClass, d.Error)
		}
	}
	for _, post := range posts {
		ended, err := time.Parse(time.RFC3339Nano, post.Ended)
		require.NoError(j, err)
		if post.Status != string(run.Status) || !ended.Equal(run.CompletedAt) {
			j.find(otherEnds, "run %d is %s at %v, its receiver was sent %s at %v", run.ID, run.Status, run.CompletedAt, post.Status, ended)
		}
	}
}

// events checks the events of a run.
func (j *checker) events(run webtrigger.Run) {
	j.Helper()
	page, err := j.store.Events(j.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 1000})
	require.NoError(j, err)
	faults := runcheck.Events(run, page.Events, func(after string) {
		if strings.HasPrefix(after, "a-") && !j.forgiven { // a claim that was lost is made again
			j.find(repeated, "run %d: claimed again after call %s, which had the one attempt", run.ID, after)
		}
	})
	for _, f := range faults {
		kind := otherEnds
		if f.Late {
			kind = lateEffects
		}
		j.find(kind, "%s", f.Text)
	}
}

// duplicates checks that each trigger has one run.
func (j *checker) duplicates(from time.Time) {
	j.Helper()
	var names []string
	err := j.db.NewRaw(`SELECT split_part(message, ' ', 1) FROM webtrigger_runs WHERE created_at >= ? GROUP BY 1 HAVING count(*) > 1`,
		from.Add(-time.Second)).Scan(j.Context(), &names)
	require.NoError(j, err)
	for _, name := range names {
		j.find(twice, "trigger %s", name)
	}
}
