package vendorhttp

import (
	"bytes"
	"slices"
	"sync/atomic"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

// Toolbox fits the tools of requests to a vendor. The requests of a run have the same
// tools, so the last set is kept. It is safe for concurrent use.
type Toolbox struct {
	rules  *vendortool.Rules
	vendor *Vendor
	log    vendortool.Log
	last   atomic.Pointer[fittedTools]
}

type fittedTools struct {
	specs []llm.ToolSpec
	set   *vendortool.Set
}

// NewToolbox returns the tools of a vendor. It logs each skipped tool once.
func NewToolbox(vendor *Vendor, rules *vendortool.Rules) *Toolbox {
	return &Toolbox{rules: rules, vendor: vendor}
}

// Fit returns the tools in the vendor's form.
func (t *Toolbox) Fit(specs []llm.ToolSpec) *vendortool.Set {
	last := t.last.Load()
	if last == nil || !slices.EqualFunc(last.specs, specs, sameTool) {
		last = &fittedTools{slices.Clone(specs), t.rules.Fit(specs)}
		for i := range last.specs {
			last.specs[i].Parameters = bytes.Clone(specs[i].Parameters)
		}
		t.last.Store(last)
	}
	t.log.Report(t.vendor.log, last.set)
	return last.set
}

func sameTool(a, b llm.ToolSpec) bool {
	return a.Name == b.Name && a.Description == b.Description && bytes.Equal(a.Parameters, b.Parameters)
}
