package llm

import (
	"maps"
	"slices"
	"strings"

	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
)

// loosen changes a schema with losses so that it accepts every value that it
// accepted before them, and removes references that cannot be followed. It returns
// these.
//
// A schema without one of its keywords accepts more. Under not, the same
// schema would reject more, so the keywords that turn one into the other go, too.
func loosen(root *schemadoc.Value, losses []schemadoc.Loss) (more []schemadoc.Loss) {
	schemadoc.Walk(root, func(_ string, s *schemadoc.Value) { allowNull(s) })
	more = append(dropUnresolved(root), dropCycles(root)...)
	loose := map[*schemadoc.Value]bool{}
	for _, loss := range append(slices.Clone(losses), more...) {
		loose[loss.Schema] = true
		loss.Schema.Delete(dependents[firstStep(loss.Keyword)]...)
	}
	if len(loose) == 0 {
		return nil
	}
	spread(root, loose)
	schemadoc.Walk(root, func(_ string, s *schemadoc.Value) {
		if loose[s] {
			accommodate(s, loose)
		}
	})
	return more
}

// dependents are the keywords that reject more without the keyword they depend on.
var dependents = map[string][]string{
	"properties": {"additionalProperties"}, "patternProperties": {"additionalProperties"},
	"prefixItems": {"items"}, "items": {"additionalItems"}, "minContains": {"contains"},
}

func firstStep(pointer string) string {
	step, _, _ := strings.Cut(pointer, "/")
	return step
}

// allowNull reads nullable, a keyword of OpenAPI.
func allowNull(s *schemadoc.Value) {
	kind := s.Get("type")
	if kind == nil || !s.Get("nullable").Is(true) {
		return
	}
	names := kind.Strings()
	if kind.Kind == schemadoc.String {
		names = []string{kind.Text}
	}
	if !slices.Contains(names, "null") {
		s.Set("type", schemadoc.NewStrings(append(names, "null")))
	}
}

var references = []string{"$ref", "$dynamicRef"}

// dropUnresolved removes the references that lead nowhere or out of the schema.
func dropUnresolved(root *schemadoc.Value) (losses []schemadoc.Loss) {
	refs := schemadoc.NewRefs(root)
	older := slices.Contains(olderDrafts, schemadoc.Draft(root))
	schemadoc.Walk(root, func(path string, s *schemadoc.Value) {
		for _, keyword := range references {
			ref := s.Get(keyword)
			if ref == nil || refs.Resolve(s, ref.Text) != nil {
				continue
			}
			dropReference(s, keyword, older)
			losses = append(losses, schemadoc.Loss{Schema: s, Path: path, Keyword: keyword, Reason: "must lead to a schema in the same document"})
		}
	})
	return losses
}

// dropReference removes a reference. In the older drafts, the keywords beside $ref
// mean nothing, so they go, too.
func dropReference(s *schemadoc.Value, keyword string, older bool) {
	s.Delete(keyword)
	if older {
		s.Members = slices.DeleteFunc(s.Members, func(m schemadoc.Member) bool {
			return !slices.Contains([]string{"$schema", "$defs", "definitions"}, m.Name)
		})
	}
}

// dropCycles removes references that lead back to their own schema without
// descending into the value: they have no effect.
func dropCycles(root *schemadoc.Value) (losses []schemadoc.Loss) {
	const underWay, done = 1, 2
	older := slices.Contains(olderDrafts, schemadoc.Draft(root))
	refs, state, paths := schemadoc.NewRefs(root), map[*schemadoc.Value]int{}, map[*schemadoc.Value]string{}
	schemadoc.Walk(root, func(path string, s *schemadoc.Value) { paths[s] = path })
	var through []*schemadoc.Value // the schemas whose reference is being followed
	var visit func(s *schemadoc.Value)
	visit = func(s *schemadoc.Value) {
		if state[s] == underWay && len(through) > 0 {
			from := through[len(through)-1]
			if from.Get("$ref") != nil {
				dropReference(from, "$ref", older)
				losses = append(losses, schemadoc.Loss{Schema: from, Path: paths[from], Keyword: "$ref", Reason: "must not lead back to its own schema"})
			}
		}
		if state[s] != 0 {
			return
		}
		state[s] = underWay
		for _, sub := range schemadoc.Subschemas(s) {
			if schemadoc.InPlace(sub.Keyword) {
				visit(sub.Schema)
			}
		}
		if ref := s.Get("$ref"); ref != nil {
			if target := refs.Resolve(s, ref.Text); target != nil {
				through = append(through, s)
				visit(target)
				through = through[:len(through)-1]
			}
		}
		state[s] = done
	}
	schemadoc.Walk(root, func(_ string, s *schemadoc.Value) { visit(s) })
	return losses
}

// spread makes every schema loose that contains or refers to a loose one.
func spread(root *schemadoc.Value, loose map[*schemadoc.Value]bool) {
	refs := schemadoc.NewRefs(root)
	users := map[*schemadoc.Value][]*schemadoc.Value{}
	schemadoc.Walk(root, func(_ string, s *schemadoc.Value) {
		for _, sub := range schemadoc.Subschemas(s) {
			users[sub.Schema] = append(users[sub.Schema], s)
		}
		for _, keyword := range references {
			if ref := s.Get(keyword); ref != nil {
				if target := refs.Resolve(s, ref.Text); target != nil {
					users[target] = append(users[target], s)
				}
			}
		}
	})
	var mark func(s *schemadoc.Value)
	mark = func(s *schemadoc.Value) {
		for _, user := range users[s] {
			if !loose[user] {
				loose[user] = true
				mark(user)
			}
		}
	}
	for _, s := range slices.Collect(maps.Keys(loose)) {
		mark(s)
	}
}

// accommodate removes the keywords of a loose schema that would reject more because
// a schema within it accepts more.
func accommodate(s *schemadoc.Value, loose map[*schemadoc.Value]bool) {
	isLoose := func(keyword string) bool {
		return slices.ContainsFunc(schemadoc.Subschemas(s), func(sub schemadoc.Sub) bool { return sub.Keyword == keyword && loose[sub.Schema] })
	}
	if isLoose("not") {
		s.Delete("not")
	}
	if isLoose("if") {
		s.Delete("if", "then", "else")
	}
	if isLoose("contains") {
		s.Delete("maxContains")
	}
	if isLoose("oneOf") { // two may match now
		if s.Get("anyOf") != nil {
			s.Delete("oneOf")
		} else {
			for i := range s.Members {
				if s.Members[i].Name == "oneOf" {
					s.Members[i].Name = "anyOf"
				}
			}
		}
	}
	// These apply to values that no other keyword covers, and other keywords may have been
	// deleted above.
	s.Delete("unevaluatedProperties", "unevaluatedItems")
}
