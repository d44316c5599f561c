//go:build unix && chaos

package chaostest_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(envReplica); config != "" {
		if err := runReplica(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	pgtest.StopShared()
	os.Exit(code)
}

// interval is how often each caller triggers.
const interval = 700 * time.Millisecond

// One round of each fault, some at once: those of single assistants, those of single
// replicas, and those of the store one after the other.
func TestChaos_oneRoundOfEachFault_keepsGuarantees(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.startReplicas(8, 0)
	r.load.begin(interval)
	calm := r.calm(2 * time.Second)
	t.Logf("calm: p50 %v, p99 %v of %d", quantile(calm, 0.5), quantile(calm, 0.99), len(calm))
	const lasts = 5 * time.Second
	first := r.round(deadReceivers(lasts), slowReceiver(lasts), lockedRows(lasts), openTransactions(lasts), jumped(), deaf())
	r.checkOthers(calm, first.during, 4)
	r.round(killed(direct), cut(direct, lease+lease/2), stopped(pooled, lease+lease/2))
	for _, f := range []*fault{unanswered(), restarted(), crashed(0), readOnly(), stalled(3 * time.Second), fullDisk(), failedOver()} {
		r.round(f)
	}
	kept := r.load.count()
	r.fail("one round", r.check(0, false))

	last := promoted()
	last.after = nil // no more faults
	r.round(last)
	r.load.end()
	r.fail("promotion of the asynchronous standby", without(r.check(kept, true), lost))
	r.stop()
}

// without are violations of other kinds.
func without(all []violation, kind string) (rest []violation) {
	for _, v := range all {
		if v.kind != kind {
			rest = append(rest, v)
		}
	}
	return rest
}

// fail fails the test for each guarantee that is violated.
func (r *rig) fail(where string, broken []violation) {
	r.Helper()
	for i, v := range broken {
		if i < 20 {
			assert.Fail(r.T, v.kind, "%s: %s", where, v.text)
		}
	}
}

// checkOthers checks the effect of faults on other assistants. Both figures are shown.
// A machine that is busy may add some of its calm times to the limit.
func (r *rig) checkOthers(calm, during []time.Duration, slack int) {
	r.Helper()
	before, then := quantile(calm, 0.99), quantile(during, 0.99)
	r.T.Logf("other assistants: p99 %v of %d, calm %v: %.2fx", then.Round(time.Millisecond), len(during), before.Round(time.Millisecond), float64(then)/float64(before))
	assert.LessOrEqual(r.T, then, othersLimit+time.Duration(slack)*before, "p99 of assistants that the fault does not concern")
}

const othersLimit = 2 * time.Second
