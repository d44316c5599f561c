//go:build unix

package chaostest_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
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
func TestChaos_oneRoundOfEachFault_keepsThePromises(t *testing.T) {
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

// fail fails the test for each promise that is broken.
func (r *rig) fail(where string, broken []violation) {
	r.Helper()
	for i, v := range broken {
		if i < 20 {
			assert.Fail(r.T, v.kind, "%s: %s", where, v.text)
		}
	}
}

// checkOthers checks what assistants notice of faults of others. Both figures are shown.
// A machine that is busy may add some of its calm times to the limit.
func (r *rig) checkOthers(calm, during []time.Duration, slack int) {
	r.Helper()
	before, then := quantile(calm, 0.99), quantile(during, 0.99)
	r.T.Logf("other assistants: p99 %v of %d, calm %v: %.2fx", then.Round(time.Millisecond), len(during), before.Round(time.Millisecond), float64(then)/float64(before))
	assert.LessOrEqual(r.T, then, othersLimit+time.Duration(slack)*before, "p99 of assistants that the fault does not concern")
}

const othersLimit = 2 * time.Second

// all are the faults of the campaign.
func all() []func() *fault {
	return []func() *fault{
		func() *fault { return killed(either) },
		func() *fault { return stopped(either, 2*lease) },
		func() *fault { return cut(either, 2*lease) },
		restarted,
		func() *fault { return crashed(lease / 3) },
		func() *fault { return stalled(13 * time.Second) }, // for longer than a statement may take
		unanswered, fullDisk, readOnly, failedOver,
		jumped, deaf,
		func() *fault { return lockedRows(20 * time.Second) }, // for much longer than the limit of others
		func() *fault { return openTransactions(20 * time.Second) },
		func() *fault { return slowReceiver(20 * time.Second) },
		func() *fault { return deadReceivers(20 * time.Second) },
		promoted,
	}
}

// The campaign: WEBTRIGGER_CHAOS is the number of rounds of each fault, or "all": 50, or
// 10 where a round is long. WEBTRIGGER_CHAOS_ONLY selects faults by a part of their name.
func TestCampaign(t *testing.T) {
	wanted := os.Getenv("WEBTRIGGER_CHAOS")
	if wanted == "" {
		t.Skip("make chaos")
	}
	table := newTable()
	t.Cleanup(func() { t.Logf("\n%s", table) })
	for _, fault := range all() {
		name := fault().name
		if !strings.Contains(name, os.Getenv("WEBTRIGGER_CHAOS_ONLY")) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			rounds := 50
			if fault().slow {
				rounds = 10
			}
			if n, err := strconv.Atoi(wanted); err == nil {
				rounds = n
			}
			r := newRig(t)
			r.startReplicas(8, 0)
			r.load.begin(interval)
			calm := r.calm(10 * time.Second)
			row := table.begin(name, calm)
			for range rounds {
				first := r.load.count()
				f := fault()
				result := r.round(f)
				broken := r.check(first, f.about == commits)
				row.add(result, broken)
				if f.about == commits {
					broken = without(broken, lost)
				}
				r.fail(name, broken)
				if t.Failed() {
					break
				}
			}
			if fault().about == tenants {
				r.checkOthers(row.calm, row.during, 2)
			}
			r.load.end()
			r.stop()
		})
	}
}
