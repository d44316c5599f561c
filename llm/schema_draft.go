package llm

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
)

// The drafts that the jsonschema package reads. It reads draft-04 and draft-06 as
// draft-07 after translation.
var olderDrafts = []string{"07", "06", "04", "03"}

// supported are the drafts that CompileSchema accepts. "" is 2020-12.
var supported = []string{"", "2020-12", "07"}

// translate rewrites a schema in place for the jsonschema package, with the same
// meaning. It returns the keywords that it omitted.
func translate(root *schemadoc.Value) []schemadoc.Loss {
	draft := schemadoc.Draft(root)
	older := slices.Contains(olderDrafts, draft)
	schemadoc.Gather(root)
	losses := schemadoc.Translate(root, !older)
	if root.Get("$schema") != nil {
		name := schemadoc.Draft2020
		if older {
			name = schemadoc.Draft07
		}
		root.Set("$schema", schemadoc.NewString(name))
	}
	identify(root, draft, older)
	if !older {
		schemadoc.Walk(root, func(_ string, s *schemadoc.Value) { splitDependencies(s) })
	}
	return append(losses, goPatterns(root)...)
}

// splitDependencies rewrites dependencies of draft-07 where no draft is named.
func splitDependencies(s *schemadoc.Value) {
	all := s.Get("dependencies")
	if all == nil || s.Get("dependentRequired") != nil || s.Get("dependentSchemas") != nil {
		return
	}
	required, schemas := schemadoc.NewObject(), schemadoc.NewObject()
	for _, m := range all.Members {
		if m.Value.Kind == schemadoc.Array {
			required.Members = append(required.Members, m)
		} else {
			schemas.Members = append(schemas.Members, m)
		}
	}
	s.Delete("dependencies")
	s.Set("dependentRequired", required)
	s.Set("dependentSchemas", schemas)
}

// identify rewrites the identities of schemas: id of draft-04, $id with a fragment
// of draft-07 where no draft is named, and relative identities without a base.
func identify(root *schemadoc.Value, draft string, older bool) {
	relative := false
	schemadoc.Walk(root, func(_ string, s *schemadoc.Value) {
		if old := s.Get("id"); old != nil && old.Kind == schemadoc.String && (draft == "04" || draft == "03") && s.Get("$id") == nil {
			s.Delete("id")
			s.Set("$id", old)
		}
		id := s.Get("$id")
		switch {
		case id == nil:
		case strings.HasPrefix(id.Text, "#"):
			if !older && draft != "2020-12" && s.Get("$anchor") == nil {
				s.Delete("$id")
				s.Set("$anchor", schemadoc.NewString(id.Text[1:]))
			}
		default:
			u, err := url.Parse(id.Text)
			relative = relative || err == nil && !u.IsAbs()
		}
	})
	if !relative {
		return
	}
	base := &url.URL{Scheme: "https", Host: "schema.invalid", Path: "/"}
	if id := root.Get("$id"); id != nil {
		u, err := url.Parse(id.Text)
		if err != nil || u.IsAbs() || strings.HasPrefix(id.Text, "#") {
			return
		}
		base = base.ResolveReference(u)
	}
	root.Set("$id", schemadoc.NewString(base.String()))
}

// compileArguments compiles the check of a tool's arguments. A keyword that is not
// supported is ignored, because the server of the tool checks the arguments, too:
// the check never rejects what the schema accepts. ignored is called for each.
func compileArguments(schema json.RawMessage, ignored func(schemadoc.Loss)) (check func(json.RawMessage) error, err error) {
	defer recovered(&err)
	root, err := schemadoc.Parse(schema)
	if err != nil {
		return nil, err
	}
	losses := translate(root)
	losses = append(losses, loosen(root, losses)...)
	for _, loss := range losses {
		ignored(loss)
	}
	check, err = build(root.JSON())
	if err != nil {
		ignored(schemadoc.Loss{Schema: root, Keyword: "*", Reason: err.Error()})
		return func(arguments json.RawMessage) error { _, err := decode(arguments); return err }, nil
	}
	return check, nil
}
