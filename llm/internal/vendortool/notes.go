package vendortool

import (
	"fmt"
	"strings"

	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
)

// alternatives are schemas of which the arguments must meet one.
type alternatives struct {
	exactlyOne bool
	parts      []*schemadoc.Value // flattened, with the original names
}

// maxNotePart is how much of one alternative a note shows, in characters.
const maxNotePart = 200

// notes returns the rules that the vendor's form of the top level cannot express, as
// sentences for the model.
func (t *topLevel) notes() (notes []string) {
	for _, a := range t.alternatives {
		seen := map[string]bool{}
		var parts []string
		for _, part := range a.parts {
			text := t.summary(part)
			if !seen[text] {
				parts = append(parts, fmt.Sprintf("(%d) %s", len(parts)+1, text))
			}
			seen[text] = true
		}
		if len(parts) < 2 {
			continue
		}
		count := "at least one"
		if a.exactlyOne {
			count = "exactly one"
		}
		notes = append(notes, "The arguments must match "+count+" of these alternatives: "+strings.Join(parts, "; ")+".")
	}
	for _, m := range t.dropped {
		value := m.Value.Clone()
		if m.Name == "enum" {
			for _, item := range value.Items {
				renameMembers(item, t.keys)
			}
			notes = append(notes, "The arguments must be one of: "+cutText(string(value.JSON()), 2*maxNotePart)+".")
			continue
		}
		rename(value, t.keys)
		notes = append(notes, "The arguments must not match this JSON Schema: "+cutText(string(value.JSON()), 2*maxNotePart)+".")
	}
	if t.lossy {
		notes = append(notes, "Further conditions apply. A call that does not meet them fails with the reason.")
	}
	return notes
}

// summary describes one alternative: its title, and the properties that it
// requires or, if it requires none, that it has. A property that must have one
// value is shown with it.
func (t *topLevel) summary(part *schemadoc.Value) string {
	properties := part.Get("properties")
	names := part.Get("required").Strings()
	optional := len(names) == 0
	if optional && properties != nil {
		for _, m := range properties.Members {
			names = append(names, m.Name)
		}
	}
	shown := make([]string, len(names))
	for i, name := range names {
		shown[i] = t.keys.vendor(name)
		if value := properties.Get(name).Get("const"); value != nil {
			shown[i] += " = " + string(value.JSON())
		}
	}
	text := strings.Join(shown, ", ")
	switch {
	case text == "":
		plain := part.Clone()
		plain.Delete("title", "description", "type", "properties")
		if text = string(plain.JSON()); text == "{}" {
			text = "any arguments"
		}
	case optional:
		text += " (optional)"
	}
	if title := part.Get("title"); title != nil && title.Text != "" {
		text = title.Text + ": " + text
	}
	return cutText(text, maxNotePart)
}
