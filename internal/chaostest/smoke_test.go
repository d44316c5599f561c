//go:build unix

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

// One round of each fault that needs no standby, several at once, under less load than
// in the campaign: those of single assistants, those of single replicas, and those of
// the store. doc.go has the smoke tests of the others.
func TestSmoke_oneRoundOfEachFault_keepsGuarantees(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.startReplicas(8, 0)
	r.load.begin(4 * time.Second)
	calm := r.calm(4 * time.Second)
	t.Logf("calm: p50 %v, p99 %v of %d", quantile(calm, 0.5), quantile(calm, 0.99), len(calm))
	const lasts = 8 * time.Second // longer than others may take
	first := r.round(lockedRows(lasts), openTransactions(lasts), jumped())
	r.checkOthers(calm, first.during, 2)
	r.round(cut(direct), stopped(pooled), unanswered(single))
	r.round(killed(direct), unansweredClaims(pooled), lateClaims(single), deaf())
	for _, f := range []*fault{fullDisk(), readOnly(), restarted()} {
		r.round(f)
	}
	r.load.end()
	r.fail("one round", r.check(0, false))
	r.stop()
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
