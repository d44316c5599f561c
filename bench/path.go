package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger/bench/internal/postgres"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
)

// path is one way through the product that is worth measuring.
type path struct {
	name     string
	about    string
	rounds   int // unless a flag sets it; 0: defaultRounds
	clients  int // at a time, unless a flag sets it; 0: does not apply
	n        int // how much of it, likewise
	columns  []string
	variants []variant
	goals    []report.Goal
}

// variant is one way to go a path: the product's, a peer's, or the least that it
// takes at all.
type variant struct {
	name    string
	measure func(context.Context, *rig) (report.Figures, error)
}

// paths are all there are, in the order of DESIGN's table.
func paths() []path {
	return []path{
		acceptPath(), acceptOnePath(), acceptMemoryPath(), completePath(), statusPath(), pickupPath(), drainPath(),
		appendPath(), livePath(), fanoutPath(), fanoutEachPath(1000), fanoutEachPath(10_000), idlePath(), callbackPath(), longPath(),
		sqlitePath(), storedPath(), heldPath(), stepsPath(),
	}
}

const defaultRounds = 5

// bench is one run of the program.
type bench struct {
	settings
	out    io.Writer
	server *postgres.Server // nil until a variant needs it
}

func (b *bench) close() {
	if b.server != nil {
		b.server.Stop()
	}
}

// run measures the variants of a path in turns and prints the results. Each
// round begins with another variant, so that none is always the first.
func (b *bench) run(ctx context.Context, p path) ([]report.Verdict, error) {
	p.variants = slices.DeleteFunc(p.variants, func(v variant) bool {
		return b.only != "" && !slices.Contains(strings.Split(b.only, ","), v.name)
	})
	names := make([]string, len(p.variants))
	for i, v := range p.variants {
		names[i] = v.name
	}
	kept := &keeper{}
	defer kept.close()
	table := report.NewTable(names, p.columns)
	rounds := cmp.Or(b.rounds, p.rounds, defaultRounds)
	began := time.Now()
	for round := range rounds {
		for i := range p.variants {
			v := p.variants[(round+i)%len(p.variants)]
			figures, err := b.measure(ctx, p, v, kept)
			if errors.Is(err, errSkip) {
				if round == 0 {
					fmt.Fprintf(b.out, "%s: %s skipped: %v\n", p.name, v.name, err)
				}
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
			table.Add(round, v.name, figures)
		}
	}
	verdicts := make([]report.Verdict, len(p.goals))
	for i, g := range p.goals {
		verdicts[i] = table.Compare(g)
	}
	fmt.Fprintf(b.out, "%s: %s\n", p.name, p.about)
	fmt.Fprintf(b.out, "%d rounds in %v; median [min–max]\n\n", rounds, time.Since(began).Round(time.Second))
	return verdicts, b.print(table, verdicts)
}

// errSkip wraps the reason why a variant cannot be measured here.
var errSkip = errors.New("not measured")

func (b *bench) measure(ctx context.Context, p path, v variant, kept *keeper) (report.Figures, error) {
	r := &rig{
		bench: b, kept: kept, variant: strings.ReplaceAll(p.name+" "+v.name, " ", "-"),
		clients: cmp.Or(b.clients, p.clients), n: cmp.Or(b.n, p.n),
	}
	defer r.close()
	return v.measure(ctx, r)
}

func (b *bench) print(table *report.Table, verdicts []report.Verdict) error {
	if err := table.Write(b.out); err != nil {
		return err
	}
	if len(verdicts) > 0 {
		fmt.Fprint(b.out, "\n")
	}
	err := report.WriteVerdicts(b.out, verdicts)
	fmt.Fprint(b.out, "\n")
	return err
}
