// Package strictjson takes in request bodies: JSON that every store, every later reader and every other parser will
// understand in the same way, byte for byte as it was sent.
//
// The grammar is RFC 8259, no more and no less: what is well-formed here is what encoding/json.Valid says is, except
// that Valid gives up below 10,000 levels. On top of it stand the rules of I-JSON (RFC 7493) that two parsers could
// disagree about, and what cannot be stored. There are two classes of fault, and the first one found of the first class
// outweighs all of the second:
//
//	*SyntaxError (400)   not RFC 8259; a byte order mark; invalid UTF-8 (RFC 7493 §2.1);
//	                     an escaped surrogate without its pair (§2.1); a key twice in one object (§2.3),
//	                     at any depth and however it is spelled
//	Fault (422)          a NUL character, which can only be written \u0000, in a value or a key;
//	                     nesting deeper than 64; a top level that is not an object; an unknown field ([Unknown])
//
// Faults of the second class are gathered in the order of the text, each with the JSON Pointer (RFC 6901) of its place,
// and reading goes on after them. Not taken from I-JSON: noncharacters such as U+FFFE are text like any other, and
// numbers may have any size and precision, because nothing here turns them into floats.
//
// Reading is iterative and takes linear time and space, whatever the text; 2 GiB is the limit.
package strictjson

import (
	"encoding/json"
	"slices"
)

const (
	maxDepth  = 64  // levels of nesting; the top-level object is level 1
	maxFaults = 100 // more are not useful to a reader
)

// Fault is one thing wrong with a document that is well-formed, and where.
type Fault struct {
	Pointer string // as [Pointer] writes it; "" is the whole document
	Detail  string // a sentence part without a full stop, such as "must be a JSON object"
}

// SyntaxError is a document that is not well-formed.
type SyntaxError struct {
	Offset int64  // in bytes, from 0
	Detail string // a sentence that may be shown to the sender; of the document it quotes no more than a short key and its place
}

func (e *SyntaxError) Error() string { return "strictjson: " + e.Detail }

// Member is one name/value pair of an object.
type Member struct {
	Key string          // unescaped
	Raw json.RawMessage // the value's own bytes without the white space around them; it aliases the input
}

// Parse reads the JSON document data strictly. It returns the members of the top-level object in their order, and what
// is wrong with the document beyond its syntax: at most 100 faults. members is nil, not empty, when the top level is no
// object, and a Fault with Pointer "" says so. An error is always a *SyntaxError, and then there is nothing else.
func Parse(data []byte) (members []Member, faults []Fault, err error) {
	s := scanner{data: data}
	if err := s.scan(); err != nil {
		return nil, nil, err
	}
	return s.members, s.faults, nil
}

// Value holds any JSON value to the rules of [Parse], as if it were the value of a member of a top-level object: it may
// be of any type and nest one level less. Pointers start at the value.
func Value(data []byte) ([]Fault, error) {
	s := scanner{data: data, above: 1}
	if err := s.scan(); err != nil {
		return nil, err
	}
	return s.faults, nil
}

// Members splits an object that Parse has accepted, alone or inside a document, into its members in their order. Of
// anything else it returns nil.
func Members(object json.RawMessage) []Member {
	s := scanner{data: object}
	if s.scan() != nil {
		return nil
	}
	return s.members
}

// Unknown returns a Fault for every member whose key is not allowed: at most 100. Keys are compared exactly, case and
// all.
func Unknown(members []Member, allowed ...string) []Fault {
	var faults []Fault
	for _, m := range members {
		if !slices.Contains(allowed, m.Key) && len(faults) < maxFaults {
			faults = append(faults, Fault{Pointer(m.Key), "is not a known field"})
		}
	}
	return faults
}
