package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table holds the figures of all variants of a path.
type Table struct {
	columns  []string
	variants []string
	rounds   []map[string]Figures
}

// NewTable returns a table whose rows are variants and whose columns are
// figures, both in the order given.
func NewTable(variants, columns []string) *Table {
	return &Table{columns: columns, variants: variants}
}

// Add records what a variant measured in a round; rounds count from 0 and come
// in order.
func (t *Table) Add(round int, variant string, figures Figures) {
	for len(t.rounds) <= round {
		t.rounds = append(t.rounds, map[string]Figures{})
	}
	t.rounds[round][variant] = figures
}

// Samples returns a figure of a variant in each round that has it.
func (t *Table) Samples(variant, figure string) []float64 {
	var samples []float64
	for _, round := range t.rounds {
		if v, ok := round[variant][figure]; ok {
			samples = append(samples, v)
		}
	}
	return samples
}

// Ratios returns the figure of one variant over that of another, for each round
// that has both.
func (t *Table) Ratios(figure, of, over string) []float64 {
	var ratios []float64
	for _, round := range t.rounds {
		a, hasA := round[of][figure]
		b, hasB := round[over][figure]
		if hasA && hasB && b != 0 {
			ratios = append(ratios, a/b)
		}
	}
	return ratios
}

// Write prints a row for each variant that measured anything.
func (t *Table) Write(w io.Writer) error {
	tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(tab, "  \t%s\n", strings.Join(t.columns, "\t"))
	for _, variant := range t.variants {
		cells := make([]string, len(t.columns))
		measured := false
		for i, figure := range t.columns {
			spread, ok := SpreadOf(t.Samples(variant, figure))
			if cells[i] = "–"; ok {
				cells[i], measured = spread.String(), true
			}
		}
		if measured {
			fmt.Fprintf(tab, "  %s\t%s\n", variant, strings.Join(cells, "\t"))
		}
	}
	return tab.Flush()
}
