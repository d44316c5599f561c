// Bench measures the product against what the machine can do at all and against
// its peers, on the paths that matter, and prints the ratios beside the goals.
//
//	go run ./bench -list
//	go run ./bench accept -clients 64 -rounds 5
//	go run ./bench all
//
// It needs the programs of a PostgreSQL server, from which it starts a private
// one, or a server of one's own (-dsn). README.md describes the method.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

func main() {
	if child.IsChild() {
		child.Main(serve.Makers())
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are the flags of the command line.
type settings struct {
	dsn     string
	rounds  int // 0: the path's own
	window  time.Duration
	clients int    // 0: the path's own
	n       int    // 0: the path's own
	only    string // variants, separated by commas; "": all
	profile string // directory; "": none
}

func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	list := flags.Bool("list", false, "list the paths and their goals")
	flags.StringVar(&s.dsn, "dsn", "", "Postgres server to use, as a URL; it gets databases of its own there (default: a private server)")
	flags.IntVar(&s.rounds, "rounds", 0, "rounds, in each of which every variant has its turn (default: 5, or the path's)")
	flags.DurationVar(&s.window, "d", time.Second, "how long a variant is measured in a round")
	flags.IntVar(&s.clients, "clients", 0, "clients at a time (default: the path's)")
	flags.IntVar(&s.n, "n", 0, "runs, events, streams or callbacks (default: the path's)")
	flags.StringVar(&s.only, "only", "", "only these variants, separated by commas")
	flags.StringVar(&s.profile, "profile", "", "directory for CPU profiles of the measured processes")
	flags.SetOutput(errOut)
	flags.Usage = func() {
		fmt.Fprintln(errOut, "usage: bench PATH… [flags]   (-list shows the paths; all is all of them)")
		flags.PrintDefaults()
	}
	var names []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		names, args = append(names, args[0]), args[1:]
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *list {
		return listPaths(out)
	}
	if s.rounds < 0 || s.window <= 0 || flags.NArg() > 0 || len(names) == 0 {
		flags.Usage()
		return errors.New("nothing to measure")
	}
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	b := &bench{settings: s, out: out}
	defer b.close()
	return b.runAll(ctx, chosen)
}

// choose returns the paths of these names.
func choose(names []string) ([]path, error) {
	if len(names) == 1 && names[0] == "all" {
		return paths(), nil
	}
	var chosen []path
	for _, name := range names {
		found := false
		for _, p := range paths() {
			if p.name == name {
				chosen, found = append(chosen, p), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no path %q: see -list", name)
		}
	}
	return chosen, nil
}

func listPaths(out io.Writer) error {
	tab := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, p := range paths() {
		fmt.Fprintf(tab, "%s\t%s\n", p.name, p.about)
		for _, g := range p.goals {
			fmt.Fprintf(tab, "\t  %s %s %g\n", g, g.Is, g.Bound)
		}
	}
	return tab.Flush()
}

// runAll measures paths one after the other; after several it repeats all
// verdicts.
func (b *bench) runAll(ctx context.Context, chosen []path) error {
	var all []report.Verdict
	for _, p := range chosen {
		verdicts, err := b.run(ctx, p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		all = append(all, verdicts...)
	}
	if len(chosen) < 2 {
		return nil
	}
	fmt.Fprint(b.out, "all goals\n\n")
	return report.WriteVerdicts(b.out, all)
}
