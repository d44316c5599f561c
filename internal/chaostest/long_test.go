//go:build unix && chaos

package chaostest_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// all are the faults of the campaign.
func all(s *standbys) []func() *fault {
	return []func() *fault{
		func() *fault { return killed(either) },
		func() *fault { return killedLocked(either) },
		func() *fault { return stopped(either) },
		func() *fault { return cut(either) },
		restarted,
		func() *fault { return crashed(lease / 3) },
		s.stalled,
		func() *fault { return unanswered(random) }, fullDisk, readOnly, s.failedOver,
		jumped, deaf,
		func() *fault { return unansweredClaims(either) },
		func() *fault { return lateClaims(either) },
		func() *fault { return lostClaims(either) },
		func() *fault { return lockedRows(20 * time.Second) }, // for much longer than the limit of others
		func() *fault { return openTransactions(20 * time.Second) },
		func() *fault { return slowReceiver(20 * time.Second) },
		func() *fault { return deadReceivers(20 * time.Second) },
		s.promoted,
	}
}

// The campaign: WEBTRIGGER_CHAOS is the number of rounds of each fault, or "all": 50, or
// 10 where a round is long. WEBTRIGGER_CHAOS_ONLY selects faults by a part of their name.
func TestCampaign(t *testing.T) {
	wanted := os.Getenv("WEBTRIGGER_CHAOS")
	table := newTable()
	t.Cleanup(func() { t.Logf("\n%s", table) })
	var s standbys
	for _, fault := range all(&s) {
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
			s = standbys{}
			s.start(r.cluster)
			r.startReplicas(8, 0)
			r.load.begin(700 * time.Millisecond)
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

// without are violations of other kinds.
func without(all []violation, kind string) (rest []violation) {
	for _, v := range all {
		if v.kind != kind {
			rest = append(rest, v)
		}
	}
	return rest
}
