package main

import (
	"errors"
	"fmt"
	"go/scanner"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// A rule is one word that texts do not use.
type rule struct {
	text    string
	instead string
	word    *regexp.Regexp
}

// space is what a space in a list matches: white space, also a line break in a comment.
const space = `\s+(?:(?://|#|--)\s*)?`

func parseRules(list string) ([]rule, error) {
	var rules []rule
	for line := range lines(list) {
		text, instead, ok := strings.Cut(line, "\t")
		if !ok {
			return nil, fmt.Errorf("%q: no tab", line)
		}
		word, err := regexp.Compile(`(?i)\b(?:` + strings.ReplaceAll(text, " ", space) + `)\b`)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule{text: text, instead: instead, word: word})
	}
	return rules, nil
}

// An exception allows the words within a match of its pattern.
type exception struct {
	glob    string // of the file's path; a trailing / stands for all below
	pattern string
	allows  *regexp.Regexp
	used    bool
}

func parseExceptions(list string) ([]*exception, error) {
	var exceptions []*exception
	for line := range lines(list) {
		fields := strings.Split(line, "\t")
		if len(fields) != 3 || fields[2] == "" {
			return nil, fmt.Errorf("%q: must be path, pattern and reason, separated by tabs", line)
		}
		allows, err := regexp.Compile(`(?i)` + strings.ReplaceAll(fields[1], " ", space))
		if err != nil {
			return nil, err
		}
		if _, err := path.Match(fields[0], ""); err != nil {
			return nil, errors.Join(fmt.Errorf("%q", line), err)
		}
		exceptions = append(exceptions, &exception{glob: fields[0], pattern: fields[1], allows: allows})
	}
	return exceptions, nil
}

func (e *exception) covers(name string) bool {
	if strings.HasSuffix(e.glob, "/") {
		return strings.HasPrefix(name, e.glob)
	}
	ok, _ := path.Match(e.glob, name)
	return ok || e.glob == "*"
}

// unused returns the exceptions that have allowed no word.
func unused(allowed []*exception) []*exception {
	return slices.DeleteFunc(slices.Clone(allowed), func(e *exception) bool { return e.used })
}

// lines yields the lines of a list, without comments and empty ones.
func lines(list string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for line := range strings.SplitSeq(list, "\n") {
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if !yield(line) {
				return
			}
		}
	}
}

// A finding is one word in a text.
type finding struct {
	rule *rule
	word string
	line int // of the text, from 0
}

func check(rules []rule, allowed []*exception, name, text string) []finding {
	var found []finding
	for i := range rules {
		for _, at := range rules[i].word.FindAllStringIndex(text, -1) {
			if excepted(allowed, name, text, at) {
				continue
			}
			found = append(found, finding{rule: &rules[i], word: text[at[0]:at[1]], line: strings.Count(text[:at[0]], "\n")})
		}
	}
	return found
}

func excepted(allowed []*exception, name, text string, at []int) bool {
	for _, e := range allowed {
		if !e.covers(name) {
			continue
		}
		for _, within := range e.allows.FindAllStringIndex(text, -1) {
			if within[0] <= at[0] && at[1] <= within[1] {
				e.used = true
				return true
			}
		}
	}
	return false
}

// A passage is a text of a file that a person reads.
type passage struct {
	text string
	line int // of its start, from 1
}

func passages(name string, content []byte) []passage {
	if !strings.HasSuffix(name, ".go") {
		return []passage{{text: string(content), line: 1}}
	}
	var found []passage
	files := token.NewFileSet()
	file := files.AddFile(name, -1, len(content))
	var s scanner.Scanner
	s.Init(file, content, nil, scanner.ScanComments)
	previous, end := token.ILLEGAL, 0
	for {
		pos, kind, text := s.Scan()
		switch {
		case kind == token.EOF:
			return found
		case kind == token.COMMENT && previous == token.COMMENT && !strings.Contains(string(content[end:file.Offset(pos)]), "\n\n"):
			last := &found[len(found)-1]
			last.text += string(content[end:file.Offset(pos)]) + text
		case kind == token.COMMENT, kind == token.STRING:
			found = append(found, passage{text: text, line: file.Line(pos)})
		case kind == token.IDENT && previous == token.FUNC && strings.HasPrefix(text, "Test"):
			found = append(found, passage{text: separate(text), line: file.Line(pos)})
		}
		previous = kind
		if kind == token.COMMENT {
			end = file.Offset(pos) + len(text)
		}
	}
}

// separate writes the words of a Go name apart.
func separate(name string) string {
	var words strings.Builder
	for i, r := range name {
		switch {
		case r == '_':
			words.WriteByte(' ')
		case unicode.IsUpper(r) && i > 0:
			words.WriteByte(' ')
			words.WriteRune(unicode.ToLower(r))
		default:
			words.WriteRune(r)
		}
	}
	return words.String()
}
