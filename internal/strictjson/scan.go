package strictjson

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// scanner reads one JSON text from front to back. Instead of the call stack it uses two stacks of its own: the containers
// that are open at pos, and the keys of the open objects so far. The keys of one object are adjacent, because the keys of
// the objects inside it are removed before its next key is read. The two stacks yield the pointer of the current value
// and, when an object closes, whether it has a duplicate key.
type scanner struct {
	data    []byte
	pos     int
	above   int // levels of nesting around the text
	open    []container
	keys    []key
	nul     bool // the string read last has a NUL
	start   int  // where the value of the top-level member being read begins
	members []Member
	faults  []Fault
}

type container struct { // small, for there may be as many as bytes in the text
	keys  int32 // where its keys, or those of the objects in it, begin in scanner.keys
	index int32 // of the element being read; object: for an object
}

const object = -1

func (c container) end() byte {
	if c.index == object {
		return '}'
	}
	return ']'
}

type key struct {
	name   string
	offset int
}

// scan reads the whole text: white space, a value, white space (RFC 8259 §2).
func (s *scanner) scan() error {
	if len(s.data) > math.MaxInt32 {
		return s.fail(0, "the text is longer than 2 GiB")
	}
	if !utf8.Valid(s.data) {
		return s.fail(invalidUTF8(s.data), "the text is not UTF-8")
	}
	if bytes.HasPrefix(s.data, []byte("\uFEFF")) {
		return s.fail(0, "a byte order mark is not allowed")
	}
	if s.space(); s.pos == len(s.data) {
		return s.fail(s.pos, "the text is empty")
	}
	if s.above == 0 && s.peek() != '{' {
		s.fault("must be a JSON object")
	}
	for more := true; more; {
		complete, err := s.value()
		if err == nil && complete {
			more, err = s.next()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// value reads a scalar, or the beginning of an array or object up to its first value; complete is false for the latter.
func (s *scanner) value() (complete bool, err error) {
	if len(s.open) == 1 {
		s.start = s.pos
	}
	switch s.peek() {
	case '{':
		return s.begin(object)
	case '[':
		return s.begin(0)
	case '"':
		_, err := s.text()
		if s.nul {
			s.fault("must not contain the character U+0000")
		}
		return true, err
	case 't':
		return true, s.literal("true")
	case 'f':
		return true, s.literal("false")
	case 'n':
		return true, s.literal("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return true, s.number()
	}
	return false, s.expected("a value")
}

// begin opens a container whose first element is index.
func (s *scanner) begin(index int32) (complete bool, err error) {
	if s.above+len(s.open) == maxDepth { // deeper values are inside this one
		s.fault("is nested deeper than " + strconv.Itoa(maxDepth) + " levels")
	}
	if len(s.open) == 0 && index == object {
		s.members = []Member{}
	}
	c := container{keys: int32(len(s.keys)), index: index}
	s.open = push(s.open, c)
	s.pos++
	s.space()
	if s.peek() == c.end() {
		return true, s.close()
	}
	if index == object {
		return false, s.key()
	}
	return false, nil
}

// next moves from the end of a complete value to the start of the next one, and closes the containers that end there. At
// the end of the text it returns false.
func (s *scanner) next() (more bool, err error) {
	for len(s.open) > 0 {
		top := &s.open[len(s.open)-1]
		if len(s.open) == 1 && top.index == object {
			s.members = push(s.members, Member{s.keys[len(s.keys)-1].name, s.data[s.start:s.pos:s.pos]})
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
			if top.index == object {
				return true, s.key()
			}
			top.index++
			return true, nil
		case top.end():
			if err := s.close(); err != nil {
				return false, err
			}
		default:
			return false, s.expected("a comma or a closing " + string(top.end()))
		}
	}
	if s.space(); s.pos < len(s.data) {
		return false, s.fail(s.pos, "unexpected data after the value")
	}
	return false, nil
}

// close closes the innermost container. The keys of an object must differ (RFC 7493 §2.3).
func (s *scanner) close() error {
	depth := len(s.open) - 1
	first := s.open[depth].keys
	if k := repeated(s.keys[first:]); k != nil {
		return s.fail(k.offset, "the key %.64q appears twice in the object at %.64q", k.name, s.place(depth))
	}
	s.open, s.keys = s.open[:depth], s.keys[:first]
	s.pos++
	return nil
}

// repeated returns the first key that came before, or nil.
func repeated(keys []key) *key {
	const few = 16 // faster without a set
	if len(keys) <= few {
		for i := range keys {
			for _, before := range keys[:i] {
				if keys[i].name == before.name {
					return &keys[i]
				}
			}
		}
		return nil
	}
	seen := make(map[string]struct{}, len(keys))
	for i, k := range keys {
		if seen[k.name] = struct{}{}; len(seen) == i {
			return &keys[i]
		}
	}
	return nil
}

// key reads a key and its colon, up to the value.
func (s *scanner) key() error {
	offset := s.pos
	if s.peek() != '"' {
		return s.expected("a key in double quotes")
	}
	quoted, err := s.text()
	if err != nil {
		return err
	}
	s.keys = push(s.keys, key{unquote(quoted), offset})
	if s.nul {
		s.fault("must not have the character U+0000 in its key")
	}
	if s.space(); s.peek() != ':' {
		return s.expected("a colon")
	}
	s.pos++
	s.space()
	return nil
}

// push appends v, doubling what is full: append grows long slices by a quarter, and leaves four times their size behind.
func push[T any](stack []T, v T) []T {
	if len(stack) == cap(stack) {
		stack = slices.Grow(stack, len(stack)+4)
	}
	return append(stack, v)
}

// fault notes what is wrong with the value, or the key, being read.
func (s *scanner) fault(detail string) {
	if len(s.faults) < maxFaults {
		s.faults = append(s.faults, Fault{string(s.place(len(s.open))), detail})
	}
}

// place is the pointer of what is being read in the innermost of the outer depth containers.
func (s *scanner) place(depth int) (pointer []byte) {
	for i := 0; i < depth && len(pointer) < maxPointer; i++ {
		if index := s.open[i].index; index != object {
			pointer = appendToken(pointer, strconv.Itoa(int(index)))
			continue
		}
		next := len(s.keys)
		if i+1 < len(s.open) {
			next = int(s.open[i+1].keys)
		}
		pointer = appendToken(pointer, s.keys[next-1].name)
	}
	return pointer
}
