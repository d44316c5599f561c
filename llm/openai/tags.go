package openai

import (
	"regexp"
	"strings"
	"unicode"
)

// ThinkTags is how to treat thinking that a model writes into its text, as open
// models do on servers that do not separate it.
type ThinkTags string

const (
	// ThinkTagsAuto separates thinking at the start of an answer: white space, then
	// <think>, <thinking>, <thought>, [THINK] or ◁think▷, up to the closing tag, once or
	// several times. Tags may be split between chunks. A tag further on is text. If the
	// server announces reasoning in fields or parts of its own, all tags are text.
	//
	// The templates of some models (DeepSeek-R1, QwQ, names with "thinking") write the
	// opening tag themselves. The text of such a model is held back until the closing tag;
	// without one, it is the answer.
	ThinkTagsAuto ThinkTags = ""

	// ThinkTagsKeep treats all tags as text.
	ThinkTagsKeep ThinkTags = "keep"

	// ThinkTagsOpened is for models whose template writes the opening tag: an answer
	// begins within the thinking. An answer without a closing tag is not complete.
	ThinkTagsOpened ThinkTags = "opened"
)

func (t ThinkTags) valid() bool {
	return t == ThinkTagsAuto || t == ThinkTagsKeep || t == ThinkTagsOpened
}

// tagPairs are the tags in use.
var tagPairs = []struct{ open, close string }{
	{"<think>", "</think>"},
	{"<thinking>", "</thinking>"},
	{"<thought>", "</thought>"},
	{"[THINK]", "[/THINK]"},
	{"◁think▷", "◁/think▷"},
}

const (
	longestTag = len("◁/think▷")
	maxSpace   = 1 << 10 // before a tag
)

// opensItself matches the names of models whose template writes the opening tag.
var opensItself = regexp.MustCompile(`(?i)(?:^|[/:_.-])(?:r1|qwq)(?:$|[/:_.-])|deepseek-?r1|qwq|thinking|reasoner`)

// tags separates thinking from the text.
type tags struct {
	state   tagState
	held    string          // text that is not decided yet
	thought strings.Builder // thinking with its tags
	closing string          // the tag that ends the thinking; "": any
	maybe   bool            // there may be thinking without an opening tag
}

type tagState int

const (
	atStart tagState = iota // a tag may begin
	within                  // a closing tag is needed
	after                   // white space, or another tag
	passing                 // all is text
)

func newTags(mode ThinkTags, model string) *tags {
	t := new(tags)
	switch {
	case mode == ThinkTagsKeep:
		t.state = passing
	case mode == ThinkTagsOpened:
		t.state = within
	case opensItself.MatchString(model):
		t.maybe = true
	}
	return t
}

// announced is called when reasoning has arrived outside the text.
func (t *tags) announced() {
	if t.held == "" && t.thought.Len() == 0 {
		t.state = passing
	}
}

// read takes a piece of text and returns the part of it that is the answer's.
func (t *tags) read(piece string) string {
	t.held += piece
	for {
		switch t.state {
		case atStart, after:
			if !t.open() {
				return ""
			}
		case within:
			if !t.close() {
				return ""
			}
		case passing:
			text := t.held
			t.held = ""
			return text
		}
	}
}

// open looks for an opening tag. It reports false if more text is needed.
func (t *tags) open() bool {
	rest := strings.TrimLeftFunc(t.held, unicode.IsSpace)
	for _, pair := range tagPairs {
		if strings.HasPrefix(rest, pair.open) {
			t.keep(len(t.held) - len(rest) + len(pair.open))
			t.state, t.closing, t.maybe = within, pair.close, false
			return true
		}
	}
	for _, pair := range tagPairs {
		if strings.HasPrefix(pair.open, rest) && len(t.held) < maxSpace { // also if rest is empty
			return false
		}
	}
	switch {
	case t.state == after:
		t.keep(len(t.held) - len(rest))
		t.state = passing
	case t.maybe:
		t.state = within
	default:
		t.state = passing
	}
	return true
}

// close looks for a closing tag. It reports false if more text is needed.
func (t *tags) close() bool {
	for _, pair := range tagPairs {
		if t.closing != "" && t.closing != pair.close {
			continue
		}
		if at := strings.Index(t.held, pair.close); at >= 0 {
			t.keep(at + len(pair.close))
			t.state, t.maybe = after, false
			return true
		}
	}
	if done := len(t.held) - longestTag; done > 0 { // the rest may begin a tag
		t.keep(done)
	}
	return false
}

// keep moves the first n bytes of the held text to the thinking.
func (t *tags) keep(n int) {
	t.thought.WriteString(t.held[:n])
	t.held = t.held[n:]
}

// end returns the text that was held back, and reports whether the thinking did not
// end.
func (t *tags) end() (text string, unclosed bool) {
	text, t.held = t.held, ""
	switch {
	case t.state == within && t.maybe: // it was not thinking
		text = t.thought.String() + text
		t.thought.Reset()
		return text, false
	case t.state == within:
		t.thought.WriteString(text)
		return "", true
	case t.state == after:
		return "", false
	}
	return text, false
}
