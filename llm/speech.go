package llm

import (
	"strings"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// speech is the text of a model, sanitized and emitted piece by piece.
//
//	model ── add, add, … ─► message_delta …       the emitted pieces are the text,
//	      ── end ─────────► the rest, if any      by construction
//	                 take ─► the text, once a message is whole
//
// A message may continue over several model calls while Response.Text is empty.
type speech struct {
	emit  webtrigger.Emit
	hold  bool // emit nothing until show is called
	raw   strings.Builder
	shown strings.Builder // raw sanitized, as readers received it
	tail  string          // the start of a character that is not complete yet
}

// shown is the payload of a text.
type shown struct {
	Text string `json:"text"`
}

// add adds a piece when it arrives.
func (s *speech) add(piece string) error {
	if piece == "" && !s.hold { // sent by the model
		return s.emit(webtrigger.EventMessageDelta, shown{})
	}
	s.raw.WriteString(piece)
	piece = s.tail + piece
	whole := len(piece) - unfinishedLen(piece)
	s.tail = piece[whole:]
	return s.write(wire.ValidText(piece[:whole]))
}

// end adds the rest of the text: all of it if nothing was streamed.
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
	return s.write(wire.ValidText(tail))
}

// restore adds the text of an answer that an earlier attempt has recorded, without
// pieces.
func (s *speech) restore(a *modelAnswer) {
	text := a.Text
	if a.Shown != nil {
		text = *a.Shown
	}
	s.raw.WriteString(text)
	s.shown.WriteString(text)
}

// repeat emits the text so far again, unless hold is set.
func (s *speech) repeat() error {
	if s.hold {
		return nil
	}
	return s.show(s.shown.String())
}

// take returns the text so far and starts the next one.
func (s *speech) take() string {
	text := s.shown.String()
	s.raw.Reset()
	s.shown.Reset()
	return text
}

// write adds a valid text, and emits it unless hold is set.
func (s *speech) write(text string) error {
	if s.shown.Len()+len(text) > webtrigger.MaxResultBytes {
		return failure("The result is larger than 1 MiB.")
	}
	s.shown.WriteString(text)
	if s.hold {
		return nil
	}
	return s.show(text)
}

// show emits a text in pieces that fit into events. Usually there is one.
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

// unfinishedLen returns the number of bytes at the end of s that begin an incomplete
// character.
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
