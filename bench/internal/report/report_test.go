package report_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/bench/internal/report"
)

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		samples []float64
		want    report.Spread
	}{
		{[]float64{3}, report.Spread{Median: 3, Min: 3, Max: 3}},
		{[]float64{9, 1, 5}, report.Spread{Median: 5, Min: 1, Max: 9}},
		{[]float64{4, 1, 2, 8}, report.Spread{Median: 3, Min: 1, Max: 8}},
	} {
		got, ok := report.SpreadOf(c.samples)
		assert.True(t, ok)
		assert.Equal(t, c.want, got)
	}
	_, ok := report.SpreadOf(nil)
	assert.False(t, ok)
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	var samples []time.Duration
	for i := 101; i > 0; i-- {
		samples = append(samples, time.Duration(i)*time.Microsecond)
	}
	assert.Equal(t, 51.0, report.Quantile(samples, 0.5))
	assert.Equal(t, 100.0, report.Quantile(samples, 0.99))
	assert.Zero(t, report.Quantile(nil, 0.5))
}

// A machine that slows down to a half in mid-run changes every figure and no
// paired ratio.
func TestRatiosArePaired(t *testing.T) {
	t.Parallel()
	table := report.NewTable([]string{"limit", "ours"}, []string{"req/s"})
	for round, speed := range []float64{1000, 500, 100} {
		table.Add(round, "limit", report.Figures{"req/s": speed})
		table.Add(round, "ours", report.Figures{"req/s": 2 * speed})
	}
	table.Add(3, "limit", report.Figures{"req/s": 70}) // ours has no figure in this round
	assert.Equal(t, []float64{2, 2, 2}, table.Ratios("req/s", "ours", "limit"))

	v := table.Compare(report.Goal{Figure: "req/s", Of: "ours", Over: "limit", Is: report.AtLeast, Bound: 2})
	assert.True(t, v.Met)
	v = table.Compare(report.Goal{Figure: "req/s", Of: "ours", Over: "limit", Is: report.AtLeast, Bound: 2.1})
	assert.False(t, v.Met)
	v = table.Compare(report.Goal{Figure: "req/s", Of: "limit", Is: report.AtMost, Bound: 300})
	assert.True(t, v.Met)
	v = table.Compare(report.Goal{Figure: "p50 µs", Of: "ours", Is: report.AtMost, Bound: 300})
	assert.False(t, v.Known)
}

func TestOutput(t *testing.T) {
	t.Parallel()
	table := report.NewTable([]string{"limit", "ours", "absent"}, []string{"req/s", "p50 µs"})
	table.Add(0, "limit", report.Figures{"req/s": 1234.5})
	table.Add(0, "ours", report.Figures{"req/s": 2469, "p50 µs": 12.34})
	var out strings.Builder
	require.NoError(t, table.Write(&out))
	require.NoError(t, report.WriteVerdicts(&out, []report.Verdict{
		table.Compare(report.Goal{Figure: "req/s", Of: "ours", Over: "limit", Is: report.AtLeast, Bound: 1.5}),
		table.Compare(report.Goal{Figure: "req/s", Of: "absent", Over: "limit", Is: report.AtLeast, Bound: 1.5}),
		table.Compare(report.Goal{Figure: "p50 µs", Of: "ours", Is: report.AtMost, Bound: 10}),
	}))
	assert.Equal(t, ``+
		"          req/s              p50 µs\n"+
		"  limit   1234 [1234–1234]   –\n"+
		"  ours    2469 [2469–2469]   12.3 [12.3–12.3]\n"+
		"  ours / limit, req/s     ≥ 1.5   2.00 [2.00–2.00] x   met\n"+
		"  absent / limit, req/s   ≥ 1.5   –                    not measured\n"+
		"  ours, p50 µs            ≤ 10    12.3 [12.3–12.3]     short\n", out.String())
}
