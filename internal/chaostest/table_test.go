//go:build unix && chaos

package chaostest_test

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

var promises = []string{lost, neverCalled, otherEnds, otherPosts, lateEffects, twice, repeated, notCompleted, wrongAnswers}

// table is the report of a campaign.
type table struct{ rows []*row }

// row is one fault of it.
type row struct {
	name         string
	rounds       int
	broken       map[string]int
	calm, during []time.Duration
	recoveries   []time.Duration
}

func newTable() *table { return &table{} }

func (t *table) begin(name string, calm []time.Duration) *row {
	x := &row{name: name, calm: calm, broken: make(map[string]int)}
	t.rows = append(t.rows, x)
	return x
}

func (x *row) add(result round, broken []violation) {
	x.rounds++
	x.during = append(x.during, result.during...)
	x.recoveries = append(x.recoveries, result.recovery)
	for _, v := range broken {
		x.broken[v.kind]++
	}
}

func (t *table) String() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "fault\trounds\t%s\tp99 of others, calm\tp99, fault\trecovery p50\tmax\n", strings.Join(promises, "\t"))
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	for _, x := range t.rows {
		fmt.Fprintf(w, "%s\t%d", x.name, x.rounds)
		for _, kind := range promises {
			fmt.Fprintf(w, "\t%d", x.broken[kind])
		}
		fmt.Fprintf(w, "\t%v\t%v\t%v\t%v\n", ms(quantile(x.calm, 0.99)), ms(quantile(x.during, 0.99)), ms(quantile(x.recoveries, 0.5)), ms(quantile(x.recoveries, 1)))
	}
	w.Flush()
	return text.String()
}
