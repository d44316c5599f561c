// Package vendortool fits tools to the API of one vendor without changing their
// meaning.
//
// Vendors reject a whole request if one of its tools has a name, a description or
// a schema that they do not accept. So one tool of an MCP server could break every
// run of an assistant. [Rules.Fit] returns each tool in a form that the vendor
// accepts, or reports why there is none. [Set.Call] translates the model's calls
// back. The original schema is not replaced: the caller validates the arguments
// against it.
package vendortool

import (
	"regexp"
	"strconv"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
)

// Rules are what one vendor's API accepts. The rules that vendors share are not
// fields: names match toolname's rule, and schemas are valid in draft 2020-12, describe
// an object and have properties.
type Rules struct {
	vendor         string
	maxTools       int            // 0: no limit
	maxDescription int            // in characters; 0: no limit
	forbidden      []string       // keywords that the top level of a schema must not have
	key            *regexp.Regexp // the names of properties at the top level; nil: any
	complete       bool           // every array must have items, and every object properties
}

// OpenAI is what OpenAI's chat completions accept, and the services compatible
// with them.
var OpenAI = &Rules{
	vendor: "OpenAI", maxTools: 128, maxDescription: 1024,
	forbidden: []string{"anyOf", "oneOf", "allOf", "enum", "not"}, complete: true,
}

// Anthropic is what Anthropic's Messages API accepts.
var Anthropic = &Rules{
	vendor: "Anthropic", forbidden: []string{"anyOf", "oneOf", "allOf"},
	key: regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`),
}

// Limits on one schema. Beyond them, a tool costs more than a model can use.
const (
	maxSchemaBytes = 512 << 10
	maxSchemaDepth = 100
	maxMerged      = 8 << 20 // bytes of schemas merged into the top level, counted each time
	mergeCost      = 2 << 10 // bytes that the merge of one schema counts besides its own
)

// Fit returns the tools in the vendor's form, in their order. If there are more
// than the vendor accepts, the first ones are kept.
func (r *Rules) Fit(specs []llm.ToolSpec) *Set {
	s := &Set{rules: r, byName: map[string]*fitted{}, byVendorName: map[string]*fitted{}}
	for _, spec := range specs {
		t, err := r.fit(spec)
		switch {
		case s.byName[spec.Name] != nil:
			s.skip(spec.Name, "another tool has the same name")
		case err != nil:
			s.skip(spec.Name, err.Error())
		case r.maxTools > 0 && len(s.tools) == r.maxTools:
			s.skip(spec.Name, r.vendor+" accepts at most "+strconv.Itoa(r.maxTools)+" tools")
		default:
			s.tools = append(s.tools, t)
			s.byName[spec.Name] = t
		}
	}
	s.nameTools()
	return s
}

func (r *Rules) fit(spec llm.ToolSpec) (*fitted, error) {
	schema, notes, keys, err := r.fitSchema(spec.Parameters)
	if err != nil {
		return nil, err
	}
	return &fitted{
		Tool: Tool{Description: r.describe(spec.Description, notes), Schema: schema},
		name: spec.Name, keys: keys,
	}, nil
}

// refs are the keywords that refer to another schema.
var refs = []string{"$ref", "$dynamicRef"}

// object is the schema of a tool without arguments.
func object() *schemadoc.Value {
	return schemadoc.NewObject(schemadoc.Member{Name: "type", Value: schemadoc.NewString("object")},
		schemadoc.Member{Name: "properties", Value: schemadoc.NewObject()})
}
