package report

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Goal is a number to reach: for a figure of one variant over that of another,
// or for the figure itself.
type Goal struct {
	Figure string
	Of     string
	Over   string // "": the figure itself counts
	Is     Relation
	Bound  float64
}

// Relation is the required relation between a figure and a goal's bound.
type Relation string

// The relations.
const (
	AtLeast Relation = "≥"
	AtMost  Relation = "≤"
)

// Verdict is a goal and what was measured.
type Verdict struct {
	Goal
	Measured Spread
	Known    bool // a round has measured it
	Met      bool // the median reaches the bound
}

// Compare compares the median of what was measured with the goal.
func (t *Table) Compare(g Goal) Verdict {
	samples := t.Samples(g.Of, g.Figure)
	if g.Over != "" {
		samples = t.Ratios(g.Figure, g.Of, g.Over)
	}
	v := Verdict{Goal: g}
	if v.Measured, v.Known = SpreadOf(samples); v.Known {
		v.Met = v.Measured.Median >= g.Bound
		if g.Is == AtMost {
			v.Met = v.Measured.Median <= g.Bound
		}
	}
	return v
}

// String names what the goal is about, without its bound.
func (g Goal) String() string {
	if g.Over == "" {
		return fmt.Sprintf("%s, %s", g.Of, g.Figure)
	}
	return fmt.Sprintf("%s / %s, %s", g.Of, g.Over, g.Figure)
}

// WriteVerdicts prints a line for each verdict.
func WriteVerdicts(w io.Writer, verdicts []Verdict) error {
	tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, v := range verdicts {
		word, measured := "not measured", "–"
		if v.Known {
			word, measured = "short", v.Measured.String()
			if v.Over != "" {
				measured += " x"
			}
			if v.Met {
				word = "met"
			}
		}
		fmt.Fprintf(tab, "  %s\t%s %g\t%s\t%s\n", v.Goal, v.Is, v.Bound, measured, word)
	}
	return tab.Flush()
}
