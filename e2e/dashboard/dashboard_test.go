package dashboard_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// panel is what the tests look at of a panel.
type panel struct {
	Title, Type string
	Targets     []struct{ Expr, LegendFormat string }
}

func readDashboard(t *testing.T) (text string, panels []panel) {
	t.Helper()
	raw, err := os.ReadFile("../../docs/grafana-dashboard.json")
	require.NoError(t, err)
	var dashboard struct{ Panels []panel }
	require.NoError(t, json.Unmarshal(raw, &dashboard))
	return string(raw), dashboard.Panels
}

var (
	ofOurs    = regexp.MustCompile(`\b(?:webtrigger|gen_ai|http)_[a-z_]+`)
	matchers  = regexp.MustCompile(`([a-z_]+)\{([^}]*)\}`)
	matched   = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!=|=)`)
	grouped   = regexp.MustCompile(`by \(([^)]*)\)`)
	legended  = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
	suffixes  = []string{"_bucket", "_sum", "_count"}
	ofServers = []string{"job", "le"} // labels that are Prometheus's own
)

// TestDashboard holds each query to a metric that there is and to labels that it
// has, and each metric to a place on the dashboard.
func TestDashboard(t *testing.T) {
	t.Parallel()
	families := scrape(t)
	text, panels := readDashboard(t)
	queries := 0
	for _, p := range panels {
		require.Equal(t, p.Type == "row", len(p.Targets) == 0, p.Title)
		for _, target := range p.Targets {
			queries++
			found := matchers.FindAllStringSubmatch(target.Expr, -1)
			require.Len(t, found, 1, "%s: one metric, and a choice of the job: %s", p.Title, target.Expr)
			family, ok := families[familyOf(found[0][1])]
			require.True(t, ok, "%s: there is no metric %s", p.Title, found[0][1])
			require.Equal(t, family.histogram, familyOf(found[0][1]) != found[0][1], "%s: %s", p.Title, target.Expr)
			var labels []string
			for _, m := range matched.FindAllStringSubmatch(found[0][2], -1) {
				labels = append(labels, m[1])
			}
			require.Contains(t, labels, "job", p.Title)
			var by []string
			for _, group := range grouped.FindAllStringSubmatch(target.Expr, -1) {
				for label := range strings.SplitSeq(group[1], ",") {
					by = append(by, strings.TrimSpace(label))
				}
			}
			for _, label := range append(labels, by...) {
				require.Contains(t, append(family.labels, ofServers...), label, "%s: %s", p.Title, target.Expr)
			}
			for _, m := range legended.FindAllStringSubmatch(target.LegendFormat, -1) {
				require.Contains(t, by, m[1], "%s: its legend names what the query sums up", p.Title)
			}
			require.Equal(t, strings.Contains(target.Expr, "histogram_quantile"), slices.Contains(by, "le"), target.Expr)
		}
	}
	require.Greater(t, queries, 20)
	named := make(map[string]bool)
	for _, name := range ofOurs.FindAllString(text, -1) {
		named[familyOf(name)] = true
	}
	for name := range families {
		require.True(t, named[name], "%s is not on the dashboard", name)
	}
}

// TestDocument holds docs/observability.md to the metrics that there are.
func TestDocument(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/observability.md")
	require.NoError(t, err)
	documented := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `[a-z_.]+` \\| `([a-z_]+)` \\| (?:histogram|counter|gauge|up-down counter), ").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = true
	}
	made := make(map[string]bool)
	for name := range scrape(t) {
		made[name] = true
	}
	require.Equal(t, made, documented)
}

// familyOf is the name of the family that a series belongs to.
func familyOf(series string) string {
	for _, suffix := range suffixes {
		if name, ok := strings.CutSuffix(series, suffix); ok {
			return name
		}
	}
	return series
}
