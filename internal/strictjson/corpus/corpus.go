// Package corpus is a list of JSON documents, each with the verdict that strict intake passes on it, for the tests of
// all that takes JSON in or keeps it: the parser, the HTTP API, the stores.
package corpus

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

//go:embed corpus.txt
var text string

// Case is one document.
type Case struct {
	Section  string // what it is about
	Line     int    // in corpus.txt
	Document []byte
	Status   int      // 200: accepted, 400: not well-formed, 422: well-formed and rejected
	Pointers []string // 422 only: the places of the faults, in order
}

// String names the case, as a name of a subtest.
func (c Case) String() string { return fmt.Sprintf("%s, line %d", c.Section, c.Line) }

// Cases returns all cases; the caller may change them. It panics when corpus.txt is not in its own format, which is
// described there.
func Cases() []Case {
	var cases []Case
	section := ""
	for i, line := range strings.Split(text, "\n") {
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		default:
			c, err := parse(line)
			if err != nil {
				panic(fmt.Sprintf("corpus.txt:%d: %v", i+1, err))
			}
			c.Section, c.Line = section, i+1
			cases = append(cases, c)
		}
	}
	return cases
}

func parse(line string) (c Case, err error) {
	status, rest, _ := strings.Cut(line, " ")
	if c.Status, err = strconv.Atoi(status); err != nil {
		return c, err
	}
	var texts []string
	for rest != "" {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return c, err
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return c, err
		}
		texts = append(texts, text)
		rest = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	if len(texts) == 0 || len(texts) > 1 != (c.Status == 422) {
		return c, fmt.Errorf("%d strings after %d", len(texts), c.Status)
	}
	c.Document, c.Pointers = []byte(texts[0]), texts[1:]
	return c, nil
}
