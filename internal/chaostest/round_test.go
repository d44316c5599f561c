//go:build unix

package chaostest_test

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// round is what one round of a fault, or of several at once, has shown.
type round struct {
	recovery time.Duration   // from the end of the last fault
	during   []time.Duration // of the triggers of other assistants
}

// round disturbs the system, and returns when it has recovered.
func (r *rig) round(faults ...*fault) (result round) {
	r.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	var healed time.Time
	first := r.load.count() // of the triggers since all faults that last have begun
	var names []string
	for _, f := range faults {
		names = append(names, f.name)
		all.Go(func() {
			f.begin(r)
			over := time.Now() // unless it lasts
			if f.lasts > 0 {
				mu.Lock()
				first = r.load.count()
				mu.Unlock()
			}
			time.Sleep(f.lasts)
			f.end(r)
			if f.lasts > 0 {
				over = time.Now()
			}
			mu.Lock()
			defer mu.Unlock()
			if over.After(healed) {
				healed = over
			}
		})
	}
	all.Wait()
	r.T.Log(strings.Join(names, ", "))
	disturbed := r.load.since(first)
	result.recovery = r.recovered(healed)
	for _, s := range disturbed {
		if !r.load.concerned(s) {
			took := r.latency(s)
			result.during = append(result.during, took)
			if took > othersLimit {
				r.Logf("trigger %s of %s at replica %q: accepted after %v, called back after %v; deliveries: %s", s.name,
					s.began.Format(time.TimeOnly), s.by, r.load.accepted(s), took, r.deliveriesOf(s))
			}
		}
	}
	for _, f := range faults {
		if f.after != nil {
			f.after(r)
		}
	}
	return result
}

// deliveriesOf describes the callbacks of a trigger.
func (r *rig) deliveriesOf(s *sent) (text string) {
	runKey, _ := r.load.ack(s)
	err := r.db.NewRaw(`SELECT coalesce(string_agg(concat_ws(' ', d.state, d.retry, d.due_at::time, d.attempted_at::time, d.error_class, d.error), ', ' ORDER BY d.id), '')
		FROM webtrigger_deliveries d JOIN webtrigger_runs r ON r.id = d.run_id WHERE r.run_key = ?`, runKey).Scan(r.Context(), &text)
	if err != nil {
		return err.Error()
	}
	return text
}

// calm returns how long triggers of other assistants take while nothing disturbs.
func (r *rig) calm(lasts time.Duration) (times []time.Duration) {
	first := r.load.count()
	time.Sleep(lasts)
	for _, s := range r.load.since(first) {
		if !r.load.concerned(s) {
			times = append(times, r.latency(s))
		}
	}
	return times
}

// concerned reports whether a fault of one assistant may affect a trigger. It must not
// affect the others.
func (l *load) concerned(s *sent) bool {
	return slices.ContainsFunc(l.assistants[openAssistant:], func(a *caller) bool { return a.id == s.assistant })
}

// latency waits for the callback of a trigger, and returns how long it took.
func (r *rig) latency(s *sent) time.Duration {
	for deadline := s.began.Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if total, ok := r.load.total(s); ok {
			return total
		}
	}
	return patience
}

// quantile returns the q-quantile of times.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
