package llm

import (
	"strings"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// speech is what a model says, made valid and shown piece by piece.
//
//	model ── add, add, … ─► message_delta …       what was shown is the text,
//	      ── end ─────────► the rest, if any      by construction
//	                 take ─► the text, once a message is whole
//
// A message may go on over several model calls, as long as the model does not
// name its text.
type speech struct {
	emit  webtrigger.Emit
	hold  bool // nothing is shown until show is called
	raw   strings.Builder
	shown strings.Builder // raw made valid: what readers have got
	tail  string          // the start of a character that is not whole yet
}

// shown is the payload of a text.
type shown struct {
	Text string `json:"text"`
}

// add takes a piece as it comes.
func (s *speech) add(piece string) error {
	if piece == "" && !s.hold { // the model's own wish
		return s.emit(webtrigger.EventMessageDelta, shown{})
	}
	s.raw.WriteString(piece)
	piece = s.tail + piece
	whole := len(piece) - unfinishedLen(piece)
	s.tail = piece[whole:]
	return s.say(wire.ValidText(piece[:whole]))
}

// end takes what the model says in the end: the rest of the text, or all of it
// where nothing was streamed.
func (s *speech) end(response *Response) error {
	if response.Text != "" {
		rest, ok := strings.CutPrefix(response.Text, s.raw.String())
		if !ok {
			return failure("The model's answer differs from what it streamed.")
		}
		if rest != "" {
			if err := s.add(rest); err != nil {
				return err
			}
		}
	}
	tail := s.tail
	s.tail = ""
	return s.say(wire.ValidText(tail))
}

// take returns the text so far and begins the next one.
func (s *speech) take() string {
	text := s.shown.String()
	s.raw.Reset()
	s.shown.Reset()
	return text
}

// say shows a valid text, unless it is to be held back.
func (s *speech) say(text string) error {
	if s.shown.Len()+len(text) > webtrigger.MaxResult {
		return failure("The result is larger than 1 MiB.")
	}
	s.shown.WriteString(text)
	if s.hold {
		return nil
	}
	return s.show(text)
}

// show emits a text in pieces that fit into events: usually one.
func (s *speech) show(text string) error {
	for text != "" {
		piece := wire.Truncate(text, maxShown)
		if err := s.emit(webtrigger.EventMessageDelta, shown{Text: piece}); err != nil {
			return err
		}
		text = text[len(piece):]
	}
	return nil
}

// unfinishedLen is how many bytes at the end of s begin a character of which more
// may come.
func unfinishedLen(s string) int {
	for n := 1; n < utf8.UTFMax && n <= len(s); n++ {
		if last := s[len(s)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRuneInString(last) {
				return 0
			}
			return n
		}
	}
	return 0
}
